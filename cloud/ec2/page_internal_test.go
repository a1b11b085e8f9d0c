package ec2

import (
	"fmt"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
)

// TestInstancePagesCostThemselves counts the instances that are looked at for each page: as many as it holds and one,
// wherever in the list it is. Instances come and go between the pages.
func TestInstancePagesCostThemselves(t *testing.T) {
	s, begun := &Service{}, time.Unix(1_700_000_000, 0)
	s.view.init()
	const instances, size = 1000, 10
	put := func(i int) {
		s.view.put(Instance{ID: fmt.Sprintf("i-%08d", i), AccountID: "1", Version: 1,
			LaunchTime: begun.Add(time.Duration(i) * time.Second)}, 0)
	}
	for i := range instances {
		put(2 * i)
	}
	seen, token := map[string]int{}, (*string)(nil)
	for pages := 1; ; pages++ {
		looked := 0
		list, next, err := s.instancePage(authn.Caller{AccountID: "1"}, model.Ptr[int64](size), token, func(*entry) bool {
			looked++
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if looked > size+1 {
			t.Fatalf("page %d: %d instances were looked at, want at most %d", pages, looked, size+1)
		}
		for _, e := range list {
			seen[e.inst.ID]++
		}
		if token = next; token == nil {
			break
		}
		s.view.remove(list[0].inst.ID)
		put(2*size*(pages-1) + 1) // before what was listed
	}
	if len(seen) != instances {
		t.Errorf("%d instances in all pages, want %d", len(seen), instances)
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("%s is listed %d times", id, times)
		}
	}
}
