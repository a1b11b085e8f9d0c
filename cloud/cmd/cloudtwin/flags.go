package main

import (
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// checkAddress says what is wrong with a flag's host:port.
func checkAddress(flag, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%s %q: want host:port with a port of at most 65535, such as 127.0.0.1:4580", flag, address)
	}
	return nil
}

// checkState says that a cloud's socket would not fit below the folder of the flag --state.
func checkState(layout local.Layout) error {
	if room := hypervisor.MaxSocketPath - len(layout.OperatorSocket()); room < 0 {
		return fmt.Errorf("--state %s: the path is %d bytes too long for the sockets in it; use a shorter one, such as one "+
			"below /tmp", layout, -room)
	}
	return nil
}

// checkHypervisor says what is wrong with the flag --hypervisor, which may be empty.
func checkHypervisor(uri string) error {
	if uri == "" {
		return nil
	}
	if u, err := url.Parse(uri); err != nil || u.Scheme == "" {
		return fmt.Errorf("--hypervisor %q: want a libvirt URI, such as qemu:///system", uri)
	}
	return nil
}

// checkToken says that the flag --token, which may be empty, holds no token; never what it holds.
func checkToken(token string) error {
	if token == "" {
		return nil
	}
	if _, err := nodelink.ParseToken(token); err != nil {
		return fmt.Errorf("--token: %w; 'cloudtwin node-token' prints one", err)
	}
	return nil
}
