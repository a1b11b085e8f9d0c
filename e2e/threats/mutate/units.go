package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// unit says which unit tests must notice that a check is gone, where no attack from outside can: a spec cannot make a
// request that the front door of its own client refuses, nor hold the cloud between two of its checks.
type unit struct {
	folder string // of the package, from the tree's root
	run    string // regular expression of the tests
}

// unitMutants are those that unit tests must notice.
func unitMutants() []mutant {
	delivery := func(run string) unit { return unit{"cloud/keydelivery", run} }
	iam := func(run string) unit { return unit{"cloud/iam", run} }
	metadata := func(run string) unit { return unit{"node/imds", run} }
	forged := unit{"node/vnet", "^TestForged$"}
	return []mutant{
		{"3: LBCERT is one PEM block", "one-pem", delivery("^TestOneCertificateInAPEM$")},
		{"3: IAMCERT is not retired", "retired", delivery("^TestRetiredIssuer$")},
		{"7: room for what was seen", "nonce-full", delivery("^TestNonceCacheIsBoundedAndForgets$")},
		{"after 9: all facts at one instant", "certain",
			unit{"e2e/model", "^(TestTerminatedBetweenChecks|TestKeyReplacedBetweenChecks)$"}},
		{"after 9: IAMCERT is not retired meanwhile", "still-accepted", delivery("^TestStillGood$")},
		{"after 9: LBCERT is not revoked meanwhile", "still-valid", delivery("^TestStillGoodAsksForRevocation$")},
		{"upload: the key is the certificate's", "key-pair", iam("^TestUploadServerCertificateRefuses$")},
		{"delete: nobody uses the certificate", "in-use", iam("^TestDeleteServerCertificate$")},
		{"metadata: token required", "imds-token", metadata("^TestRefused$")},
		{"metadata: token of this service and instance", "imds-token-mac", metadata("^TestTokenForged$")},
		{"metadata: token's end", "imds-token-end", metadata("^TestTokenLife$")},
		{"metadata: not through a proxy", "imds-forwarded", metadata("^TestRefused$")},
		{"metadata: hop limit", "imds-hops", metadata("^TestTokenLife$")},
		{"wire: source MAC", "wire-mac", forged},
		{"wire: source IP", "wire-ip", forged},
		{"wire: ARP of its own address", "wire-arp", forged},
		{"wire: DHCP for its own card", "wire-dhcp", forged},
		{"wire: no VLAN", "wire-vlan", forged},
		{"wire: no IPv6", "wire-ipv6", forged},
		{"wire: for the node alone", "wire-destination", unit{"node/vnet", "^(TestForged|TestRouting)$"}},
		{"wire: nothing that only routers send", "wire-routers", unit{"node/vnet", "^TestConduct$"}},
	}
}

// unitEdits put the switches of unitMutants into the sources.
func unitEdits() []edit {
	const checksFile, issuerFile = "cloud/keydelivery/checks.go", "cloud/keydelivery/issuer.go"
	const imdsFile, tokenFile, frameFile = "node/imds/imds.go", "node/imds/token.go", "node/vnet/frame.go"
	return []edit{
		{"cloud/keydelivery/authority.go", `if next, _ := pem.Decode(rest); next != nil {`,
			`if next, _ := pem.Decode(rest); next != nil && !mutated("one-pem") {`},
		{issuerFile, "accepted := c.cfg.IAMCerts(p)\n", "accepted := c.cfg.IAMCerts(p)\n" + `if mutated("retired") { ` +
			"accepted = append(slices.Clone(accepted), c.cfg.RetiredIAMCerts(p)...) }\n"},
		{"cloud/keydelivery/nonces.go", `if len(c.new)+len(c.old) >= c.max {`,
			`if len(c.new)+len(c.old) >= c.max && !mutated("nonce-full") {`},
		{"cloud/iam/delivery.go", `return rec, s.certain(ctx, d, rec)`,
			`if mutated("certain") { return rec, nil }; return rec, s.certain(ctx, d, rec)`},
		{checksFile, `if err := c.accepts(v); err != nil {`,
			`if err := c.accepts(v); err != nil && !mutated("still-accepted") {`},
		{checksFile, `return c.checkRevoked(ctx, v.cert)`,
			`if mutated("still-valid") { return nil }; return c.checkRevoked(ctx, v.cert)`},
		{"cloud/iam/certcheck.go", `if !ok || !public.Equal(leaf.PublicKey) {`,
			`if !mutated("key-pair") && (!ok || !public.Equal(leaf.PublicKey)) {`},
		{"cloud/iam/servercerts.go", `if err == nil && inUse {`, `if err == nil && inUse && !mutated("in-use") {`},
		{imdsFile, `case instance.Options.TokensRequired:`,
			`case instance.Options.TokensRequired && !mutated("imds-token"):`},
		{imdsFile, `if len(r.Header.Values("X-Forwarded-For")) > 0 {`,
			`if len(r.Header.Values("X-Forwarded-For")) > 0 && !mutated("imds-forwarded") {`},
		{imdsFile, `if s.cfg.SetHopLimit == nil {`, `if s.cfg.SetHopLimit == nil || mutated("imds-hops") {`},
		{tokenFile, `if !hmac.Equal(b[len(head):], m.mac(head, instanceID)) {`,
			`if !mutated("imds-token-mac") && !hmac.Equal(b[len(head):], m.mac(head, instanceID)) {`},
		{tokenFile, `return ends.Sub(now), now.Before(ends)`,
			`return ends.Sub(now), now.Before(ends) || mutated("imds-token-end")`},
		{frameFile, `if [6]byte(frame[6:12]) != p.mac {`, `if [6]byte(frame[6:12]) != p.mac && !mutated("wire-mac") {`},
		{frameFile, `if src != p.ip4 && (request == nil || src != [4]byte{}) {`,
			`if src != p.ip4 && (request == nil || src != [4]byte{}) && !mutated("wire-ip") {`},
		{frameFile, "\t\treturn dropVLAN\n", "\t\tif !mutated(\"wire-vlan\") { return dropVLAN }; return dropNone\n"},
		{frameFile, "\t\treturn dropIPv6\n", "\t\tif !mutated(\"wire-ipv6\") { return dropIPv6 }; return dropNone\n"},
		{frameFile, `to != broadcastMAC && to != [6]byte(p.net.mac) {`,
			`to != broadcastMAC && to != [6]byte(p.net.mac) && !mutated("wire-destination") {`},
		{frameFile, `if why := notForGuests(ip); why != dropNone {`,
			`if why := notForGuests(ip); why != dropNone && !mutated("wire-routers") {`},
		{"node/vnet/arp.go", `if [6]byte(arp.HardwareAddressSender()) != p.mac || `,
			`if !mutated("wire-arp") && [6]byte(arp.HardwareAddressSender()) != p.mac || !mutated("wire-arp") && `},
		{"node/vnet/dhcp.go", `len(request.ClientHWAddr) != 6 || [6]byte(request.ClientHWAddr) != p.mac {`,
			`len(request.ClientHWAddr) != 6 || [6]byte(request.ClientHWAddr) != p.mac && !mutated("wire-dhcp") {`},
	}
}

// unitTime ends a package's tests that a mutant makes wait for ever.
const unitTime = time.Minute

// binary is where the tests of a package are compiled to.
func (b *bench) binary(u unit) string {
	return filepath.Join(b.dir, strings.ReplaceAll(u.folder, "/", "-")+".test")
}

var failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// tests runs unit tests, without one of the checks when it is named. It returns the first that failed.
func (b *bench) tests(ctx context.Context, without string, u unit) (failed string, err error) {
	ctx, cancel := context.WithTimeout(ctx, unitTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.binary(u), "-test.run", u.run, "-test.v", "-test.timeout", (unitTime / 2).String())
	cmd.Dir = filepath.Join(b.root, u.folder)
	cmd.Env = append(os.Environ(), variable+"="+without)
	out, runErr := cmd.CombinedOutput()
	text := string(out)
	if !strings.Contains(text, "=== RUN") {
		return "", fmt.Errorf("no unit test of %s is called %s: %w\n%s", u.folder, u.run, runErr, out)
	}
	if runErr == nil {
		return "", nil
	}
	if found := failedTest.FindStringSubmatch(text); found != nil {
		return u.folder + " " + found[1], nil
	}
	if strings.Contains(text, "panic: ") && ctx.Err() == nil { // the timeout's among them
		return u.folder + " " + u.run, nil
	}
	return "", fmt.Errorf("run the unit tests %s of %s: %w\n%s", u.run, u.folder, runErr, out)
}
