package builder

import (
	"slices"
	"testing"
)

func TestOnlyTheWebImageHasDisplayDrivers(t *testing.T) {
	all := []module{{Name: "virtio_net"}, {Name: "drm", display: true}, {Name: "bochs", display: true}}
	for _, tc := range []struct {
		flavour Flavour
		want    []string
	}{
		{Web, []string{"virtio_net", "drm", "bochs"}},
		{LBVM, []string{"virtio_net"}},
	} {
		t.Run(string(tc.flavour), func(t *testing.T) {
			var got []string
			for _, m := range modulesFor(tc.flavour, all) {
				got = append(got, m.Name)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("modules %v, want %v", got, tc.want)
			}
		})
	}
}
