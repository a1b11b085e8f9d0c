package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestAnHourOfEventsIsSmall records as many events as 100 a second are in a while, each with ids of its own, and wants
// that an hour of them takes no more than 50 MB of the disk.
func TestAnHourOfEventsIsSmall(t *testing.T) {
	const events, most = 60_000, 50e6 / (3600 * 100) // bytes of each
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events / 3 {
		ctx := Begin(t.Context())
		id := uuid.NewString()
		at := time.Unix(1795330000, 0).Add(time.Duration(i) * 30 * time.Millisecond)
		j.Record(ctx, Event{Time: at, Kind: "policy.decided", Subject: "arn:aws:iam::123456789012:user/qa",
			Attributes: map[string]string{"requestId": id, "action": "ec2:DescribeInstances", "resource": "*",
				"verdict": "allowed"}})
		j.Record(ctx, Event{Time: at, Kind: "store.write", Subject: fmt.Sprintf("ec2-instances/i-%017x", i*7919),
			Attributes: map[string]string{"revision": fmt.Sprint(1000 + i)}})
		j.Record(ctx, Event{Time: at.Add(1234567), Kind: "api.request", Subject: "ec2:DescribeInstances",
			Attributes: map[string]string{
				"action": "ec2:DescribeInstances", "status": "200", "requestId": id,
				"durationMs": fmt.Sprintf("%d.%03d", i%3, i%997),
				"sourceIp":   "127.0.0.1", "caller": "arn:aws:iam::123456789012:user/qa", "accessKeyId": "AKIAAAAAAAAAAAAAAAAA",
				"userAgent": "aws-sdk-go-v2/1.47.7 os/linux lang/go#1.26 md/GOOS#linux md/GOARCH#amd64 api/ec2#1.344.1",
				"params":    "Filter.1.Name=instance-state-name&Filter.1.Value.1=running&MaxResults=100",
			}})
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	// What is in the file that is written to is not compressed yet; of an hour it is a small part.
	total, plain := int64(0), int64(0)
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if e.Name() == filepath.Base(path) {
			plain = info.Size()
		} else {
			total += info.Size()
		}
	}
	share := 1 - float64(plain)/float64(plain+largestFile*int64(len(entries)-1))
	each := float64(total)/(events*share) + float64(largestFile)/(3600*100)
	t.Logf("%d files, %.1f bytes each event", len(entries), each)
	if len(entries) < 3 || each > most {
		t.Errorf("an event takes %.1f bytes in %d files, want at most %.1f", each, len(entries), most)
	}
}
