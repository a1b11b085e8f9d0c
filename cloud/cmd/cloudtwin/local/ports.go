package local

import (
	"os"
	"strconv"
	"strings"
)

// commonLowPort is the lowest port that load balancers commonly use.
const commonLowPort = 80

// MayBindLowPorts tells whether this process may listen on ports below 1024.
func MayBindLowPorts() bool {
	if os.Geteuid() == 0 {
		return true
	}
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return false
	}
	first, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return err == nil && first <= commonLowPort
}
