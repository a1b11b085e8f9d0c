package servo

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// The keys of the original guest's user data that this cloud has a value for. The guest asks for no others on its way
// to a certificate.
const (
	keyELB   = "elb_service_url"
	keyIAM   = "euare_service_url"
	keyPort  = "webservice_port"
	keyOwner = "loadbalancer_owner_account"
)

// UserData tells an original guest where the cloud is: KEY=VALUE; pairs in one line. address is the API's host:port in
// the guests' network, reached by plain HTTP, as that guest knows nothing else; its "service URLs" are host names.
func UserData(address, ownerAccount string) ([]byte, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("write user data: %w", err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("write user data: port %q is none", port)
	}
	values := map[string]string{keyELB: host, keyIAM: host, keyPort: port, keyOwner: ownerAccount}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if strings.ContainsAny(values[key], "=;\n") {
			return nil, errors.New("write user data: " + key + " holds a character that separates")
		}
		text.WriteString(key + "=" + values[key] + ";")
	}
	return []byte(text.String()), nil
}
