package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

func TestFullDiskIsToldAndNotItsPath(t *testing.T) {
	f := newFault(fmt.Errorf("create iam-users/1/u: %w: the disk of /srv/state has 3 MB left", store.ErrFull), nil)
	if f.status != http.StatusServiceUnavailable || f.code != "ServiceUnavailable" || f.cause == nil {
		t.Errorf("fault is %+v", f)
	}
	if body := string(f.body(nil, "id")); !strings.Contains(body, "disk is full") || strings.Contains(body, "/srv") {
		t.Errorf("body is %s", body)
	}
}
