package guest

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

func TestReadAnswer(t *testing.T) {
	ip := net.IPv4(10, 64, 0, 7)
	gateway := netip.MustParseAddr("10.64.0.1")
	everywhere := netip.MustParsePrefix("0.0.0.0/0")
	onLink := &dhcpv4.Route{
		Dest:   &net.IPNet{IP: net.IPv4(10, 64, 0, 1), Mask: net.CIDRMask(32, 32)},
		Router: net.IPv4zero,
	}
	standard := &dhcpv4.Route{
		Dest:   &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)},
		Router: net.IPv4(10, 64, 0, 1),
	}
	tests := []struct {
		name    string
		options []dhcpv4.Modifier
		want    address
	}{
		{
			name: "classless routes take the place of the router",
			options: []dhcpv4.Modifier{
				dhcpv4.WithNetmask(net.CIDRMask(32, 32)),
				dhcpv4.WithRouter(net.IPv4(10, 9, 9, 9)),
				dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(onLink, standard)),
				dhcpv4.WithOption(dhcpv4.OptHostName("web-1")),
			},
			want: address{
				prefix:   netip.MustParsePrefix("10.64.0.7/32"),
				routes:   []route{{dest: netip.MustParsePrefix("10.64.0.1/32")}, {everywhere, gateway}},
				hostname: "web-1",
			},
		},
		{
			name:    "a router alone is reached over the wire",
			options: []dhcpv4.Modifier{dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(gateway.AsSlice())},
			want: address{
				prefix:   netip.MustParsePrefix("10.64.0.7/24"),
				routes:   []route{{dest: netip.MustParsePrefix("10.64.0.1/32")}, {everywhere, gateway}},
				hostname: "ip-10-64-0-7",
			},
		},
		{
			name: "nothing but an address",
			want: address{prefix: netip.MustParsePrefix("10.64.0.7/32"), hostname: "ip-10-64-0-7"},
		},
		{
			name: "MTU",
			options: []dhcpv4.Modifier{
				dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(9000)}),
			},
			want: address{prefix: netip.MustParsePrefix("10.64.0.7/32"), mtu: 9000, hostname: "ip-10-64-0-7"},
		},
		{
			name: "an MTU below IPv4's minimum is ignored",
			options: []dhcpv4.Modifier{
				dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(68)}),
			},
			want: address{prefix: netip.MustParsePrefix("10.64.0.7/32"), hostname: "ip-10-64-0-7"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ack, err := dhcpv4.New(append(tt.options, dhcpv4.WithYourIP(ip))...)
			if err != nil {
				t.Fatal(err)
			}
			got, err := readAnswer(ack)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(address{}, route{}), cmp.Comparer(func(a, b netip.Addr) bool {
				return a == b
			}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadAnswerWithoutAddress(t *testing.T) {
	ack, err := dhcpv4.New()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readAnswer(ack); err == nil {
		t.Error("took an answer without an address")
	}
}

func TestHostname(t *testing.T) {
	ip := netip.MustParseAddr("10.64.1.2")
	tests := []struct{ name, given, want string }{
		{"as given", "lb-1.internal", "lb-1.internal"},
		{"padded", "lb\x00", "lb"},
		{"none", "", "ip-10-64-1-2"},
		{"blank inside", "a b", "ip-10-64-1-2"},
		{"control character", "a\nb", "ip-10-64-1-2"},
		{"dash first", "-a", "ip-10-64-1-2"},
		{"too long", string(make([]byte, 64)) + "a", "ip-10-64-1-2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := hostname(tt.given, ip); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// FuzzReadAnswer looks for answers that break the reader; what it accepts must be an address that can be set.
func FuzzReadAnswer(f *testing.F) {
	ack, err := dhcpv4.New(dhcpv4.WithYourIP(net.IPv4(10, 64, 0, 7)), dhcpv4.WithNetmask(net.CIDRMask(32, 32)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ack.ToBytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		ack, err := dhcpv4.FromBytes(data)
		if err != nil {
			return
		}
		got, err := readAnswer(ack)
		if err != nil {
			return
		}
		if !got.prefix.IsValid() || got.hostname == "" {
			t.Errorf("accepted %+v", got)
		}
		for _, r := range got.routes {
			if !r.dest.IsValid() {
				t.Errorf("accepted route %+v", r)
			}
		}
	})
}
