package testrun

import (
	"fmt"
	"io"
	"time"
)

// Stats prints what the history knows of the specs that ever failed, the flakiest first, and how many passes it takes
// to believe that each is mended.
func Stats(w io.Writer, path, guests string) error {
	h, err := OpenHistory(path)
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	records, err := h.Records(guests)
	if err != nil {
		return err
	}
	failed := 0
	for _, r := range records {
		if r.Failures == 0 {
			continue
		}
		failed++
		if _, err := fmt.Fprintf(w, "%s [%s]\n  %s\n  last at %s: %s\n", r.Spec, r.Guests, r.Advice(),
			r.LastFailure.Format(time.RFC3339), r.Cause); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(w, "%d specs are known, %d of them have failed\n", len(records), failed)
	return err
}
