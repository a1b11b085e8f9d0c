package sts

import (
	"context"
	"crypto/sha1" //nolint:gosec // the thumbprints of IAM's OpenID Connect providers are SHA-1 by their definition
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
)

const (
	// fetchTimeout bounds the asking of an identity provider for its keys.
	fetchTimeout = 5 * time.Second
	// maxDocument bounds what a provider answers, in bytes.
	maxDocument = 256 << 10
	// keyLife is how long a provider's keys are kept, and keyPause how long it is not asked again for a key that it
	// has not.
	keyLife  = 10 * time.Minute
	keyPause = 5 * time.Second
	// maxProviders bounds how many providers' keys are kept.
	maxProviders = 200
)

// keyFetcher knows the signature keys of OpenID Connect providers. It asks servers on loopback addresses only: nothing
// that a user of the cloud enters makes the cloud reach into the network.
type keyFetcher struct {
	clock func() time.Time
	mu    sync.Mutex
	kept  map[string]fetchedKeys // by the provider's ARN and thumbprints
}

type fetchedKeys struct {
	at   time.Time
	keys jose.JSONWebKeySet
}

func newKeyFetcher(clock func() time.Time) *keyFetcher {
	return &keyFetcher{clock: clock, kept: make(map[string]fetchedKeys)}
}

// key returns a provider's keys of an id; all keys when the id is empty.
func (f *keyFetcher) key(ctx context.Context, p iam.Provider, id string) ([]jose.JSONWebKey, error) {
	name := p.ARN + " " + strings.Join(p.Thumbprints, " ")
	f.mu.Lock()
	have, ok := f.kept[name]
	f.mu.Unlock()
	age := f.clock().Sub(have.at)
	if ok && age >= 0 && age < keyLife {
		if found := pick(have.keys, id); len(found) > 0 || age < keyPause {
			return found, nil
		}
	}
	keys, err := fetchKeys(ctx, p)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.kept) >= maxProviders {
		clear(f.kept)
	}
	f.kept[name] = fetchedKeys{at: f.clock(), keys: keys}
	return pick(keys, id), nil
}

func pick(set jose.JSONWebKeySet, id string) []jose.JSONWebKey {
	if id == "" {
		return set.Keys
	}
	return set.Key(id)
}

// fetchKeys reads the discovery document and the keys that it names (OpenID Connect Discovery 1.0, 4).
func fetchKeys(ctx context.Context, p iam.Provider) (jose.JSONWebKeySet, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	client := loopbackClient(p.Thumbprints)
	var discovery struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	var keys jose.JSONWebKeySet
	if err := fetchJSON(ctx, client, p.Issuer+"/.well-known/openid-configuration", &discovery); err != nil {
		return keys, err
	}
	if strings.TrimSuffix(discovery.Issuer, "/") != p.Issuer {
		return keys, fmt.Errorf("read discovery document of %s: it is that of issuer %.80q", p.Issuer, discovery.Issuer)
	}
	if u, err := url.Parse(discovery.Keys); err != nil || u.Scheme != "https" {
		return keys, fmt.Errorf("read discovery document of %s: jwks_uri must begin with https://", p.Issuer)
	}
	return keys, fetchJSON(ctx, client, discovery.Keys, &keys)
}

// loopbackClient speaks TLS with servers on loopback addresses, one of whose certificates has a thumbprint of the list;
// without a list, with those that the system's roots vouch for.
func loopbackClient(thumbprints []string) *http.Client {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(thumbprints) > 0 {
		settings.InsecureSkipVerify = true // VerifyConnection verifies, by thumbprint
		settings.VerifyConnection = func(state tls.ConnectionState) error { return checkThumbprints(state, thumbprints) }
	}
	dialer := &net.Dialer{Timeout: fetchTimeout}
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: settings, DisableKeepAlives: true, TLSHandshakeTimeout: fetchTimeout,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				return dialLoopback(ctx, dialer, network, address)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("identity providers must not redirect")
		},
	}
}

func checkThumbprints(state tls.ConnectionState, thumbprints []string) error {
	for _, cert := range state.PeerCertificates {
		sum := sha1.Sum(cert.Raw) //nolint:gosec // see the import
		if slices.Contains(thumbprints, hex.EncodeToString(sum[:])) {
			return nil
		}
	}
	return errors.New("no certificate of the identity provider's server has a thumbprint of the provider's list")
}

// dialLoopback connects to the first address that the host's name means, if all are loopback.
func dialLoopback(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for _, ip := range found {
		if !ip.Unmap().IsLoopback() {
			return nil, fmt.Errorf("%s is no loopback address: identity providers are asked on this machine only", ip)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	return d.DialContext(ctx, network, net.JoinHostPort(found[0].Unmap().String(), port))
}

func fetchJSON(ctx context.Context, client *http.Client, address string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("ask identity provider: %w", err)
	}
	answer, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("ask identity provider: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("ask identity provider for %s: it answers %s", address, answer.Status)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxDocument+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", address, err)
	}
	if len(text) > maxDocument {
		return fmt.Errorf("read %s: it has more than %d bytes", address, maxDocument)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read %s: %w", address, err)
	}
	return nil
}
