package guest

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
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
			got, err := readAnswer(wireReply(t, ack))
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

// wireReply sends a message of another implementation through its encoder and our parser.
func wireReply(t testing.TB, ack *dhcpv4.DHCPv4) reply {
	t.Helper()
	ack.OpCode = dhcpv4.OpcodeBootReply
	r, ok := parseReply(ack.ToBytes())
	if !ok {
		t.Fatal("a sound answer was not understood")
	}
	return r
}

func TestReadAnswerWithoutAddress(t *testing.T) {
	ack, err := dhcpv4.New()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readAnswer(wireReply(t, ack)); err == nil {
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

// TestMessageIsUnderstood reads our messages with another implementation.
func TestMessageIsUnderstood(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 10, 64, 0, 7}
	server := []byte{10, 64, 0, 1}
	got, err := dhcpv4.FromBytes(dhcpMessage(mac, [4]byte{1, 2, 3, 4}, dhcpAsk, []byte{10, 64, 0, 7}, server))
	if err != nil {
		t.Fatal(err)
	}
	if got.MessageType() != dhcpv4.MessageTypeRequest || got.ClientHWAddr.String() != mac.String() || !got.IsBroadcast() ||
		got.TransactionID != (dhcpv4.TransactionID{1, 2, 3, 4}) || got.OpCode != dhcpv4.OpcodeBootRequest {
		t.Errorf("head: %s", got.Summary())
	}
	if !got.RequestedIPAddress().Equal(net.IPv4(10, 64, 0, 7)) || !got.ServerIdentifier().Equal(server) {
		t.Errorf("options: %s", got.Summary())
	}
	for _, code := range []dhcpv4.OptionCode{
		dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionHostName, dhcpv4.OptionInterfaceMTU,
		dhcpv4.OptionClasslessStaticRoute,
	} {
		if !got.IsOptionRequested(code) {
			t.Errorf("%s is not asked for", code)
		}
	}
	discover, err := dhcpv4.FromBytes(dhcpMessage(mac, [4]byte{}, dhcpDiscover, nil, nil))
	if err != nil || discover.MessageType() != dhcpv4.MessageTypeDiscover || discover.RequestedIPAddress() != nil {
		t.Errorf("discover: %v, %v", discover, err)
	}
}

func TestParseReplyRefuses(t *testing.T) {
	ack, err := dhcpv4.New(dhcpv4.WithYourIP(net.IPv4(10, 64, 0, 7)))
	if err != nil {
		t.Fatal(err)
	}
	ack.OpCode = dhcpv4.OpcodeBootReply
	sound := ack.ToBytes()
	alter := func(at int, value byte) []byte {
		b := bytes.Clone(sound)
		b[at] = value
		return b
	}
	for name, b := range map[string][]byte{
		"short": sound[:dhcpOptions-1], "a client's": alter(0, dhcpRequest), "no DHCP": alter(dhcpCookie, 0),
		"option beyond the end": append(bytes.Clone(sound[:dhcpOptions]), optHostname, 9, 'x'),
		"option without length": append(bytes.Clone(sound[:dhcpOptions]), optHostname),
	} {
		if _, ok := parseReply(b); ok {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestClasslessRoutesRefuse(t *testing.T) {
	for name, b := range map[string][]byte{
		"prefix too long": {33, 1, 2, 3, 4, 5, 1, 2, 3, 4}, "cut off": {24, 10, 0, 0, 1, 2, 3},
	} {
		if got := classlessRoutes(b); got != nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestFindCard(t *testing.T) {
	dir := t.TempDir()
	if _, err := findCard(dir); !errors.Is(err, errNoCard) {
		t.Errorf("without any: %v", err)
	}
	for name, mac := range map[string]string{
		"lo": "00:00:00:00:00:00", "bonding_masters": "", "eth1": "02:00:0a:40:00:08", "eth0": "02:00:0a:40:00:07",
		"ib0": "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:31:78:f2",
	} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "address"), []byte(mac+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if card, err := findCard(dir); err != nil || card != "eth0" {
		t.Errorf("got %q, %v", card, err)
	}
}

// FuzzReadAnswer looks for answers that break the reader; what it accepts must be an address that can be set.
func FuzzReadAnswer(f *testing.F) {
	ack, err := dhcpv4.New(dhcpv4.WithYourIP(net.IPv4(10, 64, 0, 7)), dhcpv4.WithNetmask(net.CIDRMask(32, 32)))
	if err != nil {
		f.Fatal(err)
	}
	ack.OpCode = dhcpv4.OpcodeBootReply
	f.Add(ack.ToBytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		bounded.Memory(t, len(data), func() {
			ack, ok := parseReply(data)
			if !ok {
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
	})
}
