package ec2

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// privileged is the first port that any process may bind.
const privileged = 1024

// HostPort is the port of an address on the node's host on which a guest's port is reached: the same, but port P below
// 1024 becomes P+8000 where the process may not bind it.
func HostPort(port int, unprivilegedPorts bool) int {
	if unprivilegedPorts && port < privileged {
		return port + 8000
	}
	return port
}

// sshPort is the one port of an instance that its public address has.
const sshPort = 22

// newPublicAddress chooses a public address: one of 127.128.0.0/10, beside the load balancers'. Random, because several
// clouds on one host share its loopback and know nothing of each other; the store decides whether this cloud has given
// it out already.
func newPublicAddress() (netip.Addr, error) {
	var b [4]byte
	for {
		if _, err := rand.Read(b[1:]); err != nil {
			return netip.Addr{}, fmt.Errorf("choose public address: %w", err)
		}
		b[0], b[1] = 127, 128|b[1]&0x3f
		if b[3] != 0 && b[3] != 255 { // networks' own and broadcast addresses confuse people, if not Linux
			return netip.AddrFrom4(b), nil
		}
	}
}

// giveKeyPair makes an instance one that its user can log in to: it is told the public key, and its port for SSH is
// reached from outside. Without a key there would be nobody to let in.
func (s *Service) giveKeyPair(inst *Instance, pair *KeyPair) error {
	if pair.Name == "" {
		return nil
	}
	address, err := newPublicAddress()
	if err != nil {
		return err
	}
	inst.KeyName, inst.PublicKey, inst.PublicIP = pair.Name, pair.PublicKey, address.String()
	port := strconv.Itoa(HostPort(sshPort, s.cfg.UnprivilegedPorts))
	// The slice is shared by all instances of a launch.
	inst.Exposures = append(inst.Exposures[:len(inst.Exposures):len(inst.Exposures)],
		Exposure{HostAddress: net.JoinHostPort(inst.PublicIP, port), GuestPort: sshPort})
	return nil
}

// SSHAddress is host:port where the instance's port for SSH is reached from its node's host; empty when it is not.
func (i *Instance) SSHAddress() string {
	for _, e := range i.Exposures {
		if e.GuestPort == sshPort {
			return e.HostAddress
		}
	}
	return ""
}
