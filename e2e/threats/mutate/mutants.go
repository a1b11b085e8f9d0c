package main

// mutant is the product with one of its checks taken out.
type mutant struct {
	name string
	// guard is the label of the specs that lean on the check, without "guard-", and what takes the check out: in the
	// altered sources mutated(guard) is true.
	guard string
	// unit are the tests that must notice instead of specs; the zero value means specs.
	unit unit
}

// mutants are in the order of the protocol's checks, then the guards around a delivery.
func mutants() []mutant {
	return append([]mutant{
		{name: "before 1: size of a body", guard: "body-limit"},
		{name: "before 1: size of the headers", guard: "header-limit"},
		{name: "1: HTTP signature", guard: "sigv4"},
		{name: "1: time of the HTTP signature", guard: "sigv4-time"},
		{name: "1: session token of the access key", guard: "session-token"},
		{name: "2: role session of a system account", guard: "role-session"},
		{name: "2: system account", guard: "system-account"},
		{name: "after 2: least profile", guard: "profile"},
		{name: "after 2: length of the nonce", guard: "nonce-size"},
		{name: "after 2: one spelling of the nonce", guard: "nonce-spelling"},
		{name: "3: kind of LBCERT's key", guard: "key-kind"},
		{name: "3: CA:FALSE", guard: "kind-ca"},
		{name: "3: basic constraints", guard: "kind-constraints"},
		{name: "3: key usage", guard: "kind-usage"},
		{name: "3: extended key usage", guard: "kind-extended"},
		{name: "3: signed by IAMCERT", guard: "issuer"},
		{name: "3: not before", guard: "validity-begin"},
		{name: "3: not after", guard: "validity-end"},
		{name: "3: revocation", guard: "revoked"},
		{name: "4: LBCERT of the calling instance", guard: "instance"},
		{name: "5: form of the timestamp", guard: "timestamp-form"},
		{name: "5: age of the timestamp", guard: "timestamp-old"},
		{name: "5: timestamp ahead", guard: "timestamp-ahead"},
		{name: "6: signature by LBPK", guard: "signature"},
		{name: "7: not seen before", guard: "replay"},
		{name: "7: again to the same session only", guard: "replay-session"},
		{name: "8: policy", guard: "policy"},
		{name: "8: grant withdrawn with the listener", guard: "withdraw"},
		{name: "8: session of a service's role", guard: "assume"},
		{name: "9: the certificate exists", guard: "exists"},
		{name: "keyword of system accounts only", guard: "keyword"},
		{name: "who asks elb is who it names", guard: "servo"},
		{name: "role credentials of the node's own instances", guard: "owner"},
		{name: "role credentials of live instances", guard: "owner-live"},
		{name: "reports of the node's own instances", guard: "report-owner"},
		{name: "NODECERT is in use", guard: "node-current"},
		{name: "NODECERT is the cloud CA's", guard: "node-ca"},
		{name: "enrolment token is used once", guard: "token-used"},
		{name: "enrolment token's secret", guard: "token-secret"},
		{name: "enrolment token's end", guard: "token-expiry"},
		{name: "a node's name is taken", guard: "node-exists"},
		{name: "a request is for the node's own name", guard: "csr-name"},
		{name: "credential sealed for node and instance", guard: "binding"},
		{name: "answer is signed by IAMPK", guard: "answer-signature"},
		{name: "answer's key is sealed for the request", guard: "answer-binding"},
		{name: "answer's key is the certificate's", guard: "answer-pair"},
		{name: "floppy's LBCERT is IAMCERT's", guard: "medium-issuer"},
		{name: "floppy's LBPK is LBCERT's", guard: "medium-pair"},
		{name: "floppy's two files are of one instance", guard: "medium-boot"},
		{name: "floppy is of the guest's own instance", guard: "medium-instance"},
	}, unitMutants()...)
}

// edit replaces a text that must be there exactly once.
type edit struct{ file, was, by string }

// edits put the switches of all mutants into the sources.
func edits() []edit {
	return append(append(frontDoorEdits(), checksEdits()...), append(append(nodeEdits(), guestEdits()...),
		unitEdits()...)...)
}

func frontDoorEdits() []edit {
	const deliveryFile = "cloud/iam/delivery.go"
	return []edit{
		{"cloud/api/request.go", `http.MaxBytesReader(w, r.Body, limit)`,
			`http.MaxBytesReader(w, r.Body, limit<<map[bool]int{true: 8}[mutated("body-limit")])`},
		{"cloud/api/server.go", `MaxHeaderBytes:    64 << 10,`,
			`MaxHeaderBytes: 64 << 10 << map[bool]int{true: 8}[mutated("header-limit")],`},
		{"cloud/authn/verify.go", `if subtle.ConstantTimeCompare([]byte(want), []byte(s.value)) == 1 {`,
			`if mutated("sigv4") || subtle.ConstantTimeCompare([]byte(want), []byte(s.value)) == 1 {`},
		{"cloud/authn/verify.go", `s.date.Before(oldest) {`, `!mutated("sigv4-time") && s.date.Before(oldest) {`},
		{"cloud/iam/sessions.go", `c.AccessKeyID != accessKeyID`,
			`c.AccessKeyID != accessKeyID && !mutated("session-token")`},
		{deliveryFile, `if caller.Kind != authn.KindRole || !caller.System {`,
			`if !mutated("role-session") && (caller.Kind != authn.KindRole || !mutated("system-account") && !caller.System) {`},
		{deliveryFile, `if set.Evaluate(q).Allowed() {`, `if mutated("policy") || set.Evaluate(q).Allowed() {`},
		{deliveryFile, "s.certificateByARN(ctx, request.ARN)\n\tif isMissing(err) {",
			"s.certificateByARN(ctx, request.ARN)\n\tif !mutated(\"exists\") && isMissing(err) {"},
		{"cloud/iam/assume.go", `d.Allowed() && known && found.ID != ""`,
			`(mutated("assume") || d.Allowed()) && known && found.ID != ""`},
		{"cloud/elb/grants.go", `wanted[name]; ok {`, `wanted[name]; ok || mutated("withdraw") {`},
		{"cloud/elb/servo.go", `case c.InstanceID == "" || c.InstanceID != instanceID:`,
			`case !mutated("servo") && (c.InstanceID == "" || c.InstanceID != instanceID):`},
		{"cloud/ec2/run.go", `if !spec.system {`, `if !spec.system && !mutated("keyword") {`},
	}
}

func checksEdits() []edit {
	const checksFile, requestFile = "cloud/keydelivery/checks.go", "cloud/keydelivery/request.go"
	const noncesFile = "cloud/keydelivery/nonces.go"
	return []edit{
		{checksFile, `if r.Profile != Profile2 && `, `if !mutated("profile") && r.Profile != Profile2 && `},
		{requestFile, `len(nonce) != nonceSize`, `len(nonce) != nonceSize && !mutated("nonce-size")`},
		{requestFile, `base64.StdEncoding.EncodeToString(nonce) != r.Nonce`,
			`base64.StdEncoding.EncodeToString(nonce) != r.Nonce && !mutated("nonce-spelling")`},
		{checksFile, `if ProfileOf(cert.PublicKey) != r.Profile {`,
			`if !mutated("key-kind") && ProfileOf(cert.PublicKey) != r.Profile {`},
		{checksFile, `cert.IsCA || `, `cert.IsCA && !mutated("kind-ca") || `},
		{checksFile, `!cert.BasicConstraintsValid || `, `!cert.BasicConstraintsValid && !mutated("kind-constraints") || `},
		{checksFile, `cert.KeyUsage&x509.KeyUsageDigitalSignature == 0`,
			`cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 && !mutated("kind-usage")`},
		{checksFile, `!slices.Contains(cert.ExtKeyUsage, `,
			`!mutated("kind-extended") && !slices.Contains(cert.ExtKeyUsage, `},
		{"cloud/keydelivery/issuer.go", `err := c.signed.by(cert, iamCert)`,
			`err := c.signed.by(cert, iamCert); if mutated("issuer") { err = nil }`},
		{checksFile, `now.Before(cert.NotBefore) || now.After(cert.NotAfter)`,
			`now.Before(cert.NotBefore) && !mutated("validity-begin") || now.After(cert.NotAfter) && !mutated("validity-end")`},
		{checksFile, `if why != "" {`, `if why != "" && !mutated("revoked") {`},
		{checksFile, `[]byte(by.InstanceID)) != 1`, `[]byte(by.InstanceID)) != 1 && !mutated("instance")`},
		{checksFile, `at.Format(timestampLayout) != text`,
			`at.Format(timestampLayout) != text && !mutated("timestamp-form")`},
		{checksFile, `age > MaxAge || age < -MaxAhead`,
			`age > MaxAge && !mutated("timestamp-old") || age < -MaxAhead && !mutated("timestamp-ahead")`},
		{checksFile, `if !verify(cert.PublicKey, r.canonical(), r.Signature) {`,
			`if !mutated("signature") && !verify(cert.PublicKey, r.canonical(), r.Signature) {`},
		{noncesFile, `return nonceSeen`, `if mutated("replay") { return nonceFresh }; return nonceSeen`},
		{noncesFile, `first.session == use.session`, `(mutated("replay-session") || first.session == use.session)`},
	}
}

func nodeEdits() []edit {
	const linkFile, tokensFile, nodesFile = "cloud/nodelink/tls.go", "cloud/placement/tokens.go", "cloud/ec2/nodeserver.go"
	const authenticate = "err := n.s.cfg.Placement.Authenticate(ctx, peer.NodeID, peer.Certificate)\n"
	return []edit{
		{nodesFile, `if ok && e.inst.NodeID == nodeID && e.inst.State.live() {`,
			`if ok && (e.inst.NodeID == nodeID || mutated("owner")) && (e.inst.State.live() || mutated("owner-live")) {`},
		{nodesFile, authenticate, authenticate + `if mutated("node-current") { err = nil }` + "\n"},
		{"cloud/ec2/report.go", `if !ok || e.inst.NodeID != nodeID {`,
			`if !ok || e.inst.NodeID != nodeID && !mutated("report-owner") {`},
		{linkFile, `ClientAuth:   tls.VerifyClientCertIfGiven,`, `ClientAuth: map[bool]tls.ClientAuthType{` +
			`false: tls.VerifyClientCertIfGiven, true: tls.RequestClientCert}[mutated("node-ca")],`},
		{linkFile, `if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {`,
			`if mutated("node-ca") && ok && len(info.State.PeerCertificates) > 0 { info.State.VerifiedChains = ` +
				`[][]*x509.Certificate{info.State.PeerCertificates} }` + "\n" +
				`if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {`},
		{tokensFile, `return s.tokens.In(tx).Delete(t.ID)`,
			`if mutated("token-used") { return nil }; return s.tokens.In(tx).Delete(t.ID)`},
		{tokensFile, `!same || !now.Before(record.Expires)`,
			`!same && !mutated("token-secret") || !now.Before(record.Expires) && !mutated("token-expiry")`},
		{tokensFile, `err := s.nodes.In(tx).Create(nodeID, node)`,
			`err := s.nodes.In(tx).Create(nodeID, node); if mutated("node-exists") { err = s.nodes.In(tx).Put(nodeID, node) }`},
		{"cloud/placement/ca.go", `if csr.Subject.CommonName != nodeID {`,
			`if csr.Subject.CommonName != nodeID && !mutated("csr-name") {`},
	}
}

func guestEdits() []edit {
	const answerFile = "cloud/keydelivery/answer.go"
	return []edit{
		{"cloud/keydelivery/seal.go", `if bindingOf(object.Header) != want {`,
			`if bindingOf(object.Header) != want && !mutated("binding") && !mutated("answer-binding") {`},
		{answerFile, `!verify(iamCert.PublicKey, answer.canonical(r), signature)`,
			`!mutated("answer-signature") && !verify(iamCert.PublicKey, answer.canonical(r), signature)`},
		{answerFile, `tls.X509KeyPair(certificate, userKey); err != nil {`,
			`tls.X509KeyPair(certificate, userKey); err != nil && !mutated("answer-pair") {`},
		{"lbvm-image/agent/identity.go", `lb.Signature); err != nil {`,
			`lb.Signature); err != nil && !mutated("medium-issuer") {`},
		{"cloud/keydelivery/keys.go", `if !belongs(key, cert) {`, `if !mutated("medium-pair") && !belongs(key, cert) {`},
		{"cloud/keydelivery/medium.go", `case b.InstanceID != cert.Subject.CommonName:`,
			`case !mutated("medium-boot") && b.InstanceID != cert.Subject.CommonName:`},
		{"lbvm-image/agent/lbvm.go", `if instanceID != vm.instanceID {`,
			`if !mutated("medium-instance") && instanceID != vm.instanceID {`},
	}
}
