package forks

import (
	"bytes"
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/node/vnet"
)

// frames is what passed a guest's network card since it was attached.
type frames struct {
	mu   sync.Mutex
	file bytes.Buffer
}

func (f *frames) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.Write(p)
}

// watcher captures what passes every guest of a network.
type watcher struct {
	mu       sync.Mutex
	captures map[string]*frames
}

// watch begins the capture of each guest from now on as soon as its card is attached, before it can have sent anything.
func watch(ctx context.Context, network *vnet.Network) *watcher {
	w := &watcher{captures: map[string]*frames{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() {
		// It ends with ctx or with the cloud.
		_ = cloud.Operator.Follow(ctx, func(ev journal.Event) bool {
			if ev.Kind == "instance.state" && ev.Attributes["state"] == "pending" {
				work.Go(func() { w.capture(ctx, network, ev.Subject) })
			}
			return true
		})
	})
	DeferCleanup(func() {
		cancel()
		work.Wait()
	})
	return w
}

// capture tries until the guest is attached.
func (w *watcher) capture(ctx context.Context, network *vnet.Network, instance string) {
	f := &frames{}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if stop, err := network.Capture(instance, f); err == nil {
			w.mu.Lock()
			w.captures[instance] = f
			w.mu.Unlock()
			<-ctx.Done()
			stop()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *watcher) of(instance string) *frames {
	GinkgoHelper()
	w.mu.Lock()
	defer w.mu.Unlock()
	Expect(w.captures).To(HaveKey(instance), "captures")
	return w.captures[instance]
}

// wire is what a guest's frames show of it.
type wire struct {
	MAC, IP string
	Name    string   // given by DHCP
	Randoms [][]byte // of its TLS client hellos
	Keys    [][]byte // the rest of each hello's first segment: session id and, mostly, key shares
	sent    map[segment]bool
}

// segment names what a guest sends once, and again when the network's acknowledgement takes its time.
type segment struct {
	from layers.TCPPort
	seq  uint32
}

// helloRandom is where a ClientHello that begins a TCP segment has its random (RFC 8446, section 4.1.2): behind the
// headers of record and handshake and the version.
const (
	helloRandom = 11
	helloEnd    = helloRandom + 32
)

// read takes frames apart. Those of the guest are known by their source address, which the network checks.
func (f *frames) read() wire {
	GinkgoHelper()
	w := wire{sent: map[segment]bool{}}
	f.each(func(packet gopacket.Packet) {
		w.takeDHCP(packet)
		w.takeTCP(packet)
	})
	return w
}

// each calls look with every frame so far.
func (f *frames) each(look func(gopacket.Packet)) {
	GinkgoHelper()
	f.mu.Lock()
	data := bytes.Clone(f.file.Bytes())
	f.mu.Unlock()
	file, err := pcapgo.NewReader(bytes.NewReader(data))
	Expect(err).NotTo(HaveOccurred())
	for {
		frame, _, err := file.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return
		}
		Expect(err).NotTo(HaveOccurred())
		look(gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy))
	}
}

// takeDHCP reads the network's acknowledgement (RFC 2131, 2132).
func (w *wire) takeDHCP(packet gopacket.Packet) {
	d, ok := packet.Layer(layers.LayerTypeDHCPv4).(*layers.DHCPv4)
	if !ok || d.Operation != layers.DHCPOpReply {
		return
	}
	w.IP, w.MAC = d.YourClientIP.String(), d.ClientHWAddr.String()
	for _, option := range d.Options {
		if option.Type == layers.DHCPOptHostname {
			w.Name = string(option.Data)
		}
	}
}

// takeTCP reads the guest's client hellos.
func (w *wire) takeTCP(packet gopacket.Packet) {
	const handshake, clientHello, tlsMajor = 22, 1, 3
	ip, isIP := packet.NetworkLayer().(*layers.IPv4)
	tcp, isTCP := packet.TransportLayer().(*layers.TCP)
	if !isIP || !isTCP || ip.SrcIP.String() != w.IP {
		return
	}
	p := tcp.Payload
	if len(p) < helloEnd || p[0] != handshake || p[1] != tlsMajor || p[5] != clientHello {
		return
	}
	this := segment{tcp.SrcPort, tcp.Seq}
	if w.sent[this] {
		return
	}
	w.sent[this] = true
	w.Randoms = append(w.Randoms, bytes.Clone(p[helloRandom:helloEnd]))
	w.Keys = append(w.Keys, bytes.Clone(p[helloEnd:]))
}

// metadataService is where guests ask who they are (the EC2 guide's "Instance metadata").
const metadataService = "169.254.169.254"

// The parts of what the metadata service says of a role's session.
var (
	secretField = regexp.MustCompile(`"SecretAccessKey"\s*:\s*"([^"]+)"`)
	tokenField  = regexp.MustCompile(`"Token"\s*:\s*"([^"]+)"`)
)

// roleSecrets are those of the guest's role's session, as its metadata service told them to it.
func (f *frames) roleSecrets() (secret, token string) {
	GinkgoHelper()
	text := f.from(metadataService)
	for field, into := range map[*regexp.Regexp]*string{secretField: &secret, tokenField: &token} {
		found := field.FindStringSubmatch(text)
		Expect(found).To(HaveLen(2), "%s in what the metadata service told a guest", field)
		*into = found[1]
	}
	return secret, token
}

// from is what a host sent to the guest over TCP, each byte once, as long as segments came in order.
func (f *frames) from(host string) string {
	GinkgoHelper()
	var text strings.Builder
	seen := map[segment]bool{}
	f.each(func(packet gopacket.Packet) {
		ip, isIP := packet.NetworkLayer().(*layers.IPv4)
		tcp, isTCP := packet.TransportLayer().(*layers.TCP)
		if !isIP || !isTCP || ip.SrcIP.String() != host || len(tcp.Payload) == 0 || seen[segment{tcp.DstPort, tcp.Seq}] {
			return
		}
		seen[segment{tcp.DstPort, tcp.Seq}] = true
		text.Write(tcp.Payload)
	})
	return text.String()
}
