package cloud

import (
	"context"
	"strconv"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// recordWrites tells of a write to the store: which records, by which revision. What is in a record stays there: some
// hold sealed keys.
func (c *Cloud) recordWrites(ctx context.Context, revision int64, changes []store.Write) {
	attributes := map[string]string{"revision": strconv.FormatInt(revision, 10)}
	var more, deleted []string
	for i, change := range changes {
		if i > 0 {
			more = append(more, change.Record)
		}
		if change.Deleted {
			deleted = append(deleted, change.Record)
		}
	}
	if len(more) > 0 {
		attributes["with"] = strings.Join(more, " ")
	}
	if len(deleted) > 0 {
		attributes["deleted"] = strings.Join(deleted, " ")
	}
	c.journal.Record(ctx, journal.Event{Time: c.cfg.Clock(), Kind: "store.write", Subject: changes[0].Record,
		Attributes: attributes})
}
