package agent

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

const (
	// mediumAttempts is how often a medium is read before it counts as damaged: floppies have passing read errors.
	mediumAttempts = 3
	mediumPause    = 200 * time.Millisecond
	// mediumAgain is how long to wait for a medium to be there once more.
	mediumAgain = 2 * time.Second
)

// readPatiently waits for a medium and reads it, some times over if it must. A medium that stays bad is an error.
func readPatiently[T any](ctx context.Context, world World, read func(fs.FS) (T, error)) (T, error) {
	got, err := readOnce(ctx, world, read)
	for attempt := 1; attempt < mediumAttempts && errors.Is(err, keydelivery.ErrMedium); attempt++ {
		world.Logger.Warn("medium not read", "attempt", attempt, "error", err)
		if !sleep(ctx, mediumPause) {
			return got, context.Cause(ctx)
		}
		// A source that does not give the same medium again has seen no read error: what is on it is bad.
		again, cancel := context.WithTimeout(ctx, mediumAgain)
		next, nextErr := readOnce(again, world, read)
		gone := again.Err() != nil
		cancel()
		if nextErr != nil && gone {
			return got, err
		}
		got, err = next, nextErr
	}
	return got, err
}

func readOnce[T any](ctx context.Context, world World, read func(fs.FS) (T, error)) (T, error) {
	files, err := world.Medium.Open(ctx)
	if err != nil {
		var none T
		return none, &fatal{phrase: "medium cannot be opened", cause: err}
	}
	if closer, ok := files.(io.Closer); ok {
		// Nothing was written, so an error of closing means nothing.
		defer func() { _ = closer.Close() }()
	}
	return read(files)
}

// seed gives the medium's entropy to the machine and wipes it. It comes before anything random is used.
func (w World) seed(boot keydelivery.Boot) error {
	defer clear(boot.Entropy)
	if w.Entropy == nil {
		return nil
	}
	if err := w.Entropy(boot.Entropy); err != nil {
		return &fatal{phrase: "entropy not taken", cause: err}
	}
	return nil
}

// become makes a copied machine the one that the medium is for.
func (w World) become(ctx context.Context, boot keydelivery.Boot) error {
	if w.Become == nil {
		return nil
	}
	if err := w.Become(ctx, boot); err != nil {
		return &fatal{phrase: "machine did not become " + oneLine(boot.InstanceID), cause: err}
	}
	return nil
}

// takeBoot waits for a medium, and makes the machine the one that its boot file is for.
func (w World) takeBoot(ctx context.Context) (keydelivery.Boot, error) {
	w.Console.Milestone(StageReadyForMedium)
	boot, err := readPatiently(ctx, w, keydelivery.ReadBoot)
	if err != nil {
		return keydelivery.Boot{}, err
	}
	if err := w.seed(boot); err != nil {
		return keydelivery.Boot{}, err
	}
	w.Console.Milestone(StageMediumRead, slog.String("instance", boot.InstanceID))
	return boot, w.become(ctx, boot)
}
