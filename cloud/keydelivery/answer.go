package keydelivery

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
)

// Namespace of the answer's elements.
const Namespace = "http://msgs.eucalyptus.com/4.0"

const purposeAnswer = "userpk"

// Answer is a delivery: the certificate in clear, the key sealed to LBCERT, and IAMPK's signature over both and, in
// profile 2, over what was asked. All fields are as they stand on the wire.
type Answer struct {
	CertificateARN    string // the ARN asked for
	ServerCertificate string // base64 of the PEM certificate and its chain
	ServerPk          string // profile 2: JWE of the PEM key; profile 1: see wrapped.go
	Signature         string // base64
}

// ServerCertificate is an opened delivery. Wipe Key after use.
type ServerCertificate struct {
	CertificatePEM []byte // leaf first, then its chain
	Key            Secret // PEM
}

// ErrAnswer means that an answer is not one to the request it came for. What exactly is wrong is not told apart.
var ErrAnswer = errors.New("answer is not the cloud's to this request")

// Answer seals the key to the LBCERT of a verified request and signs. The request must be of the identity's profile,
// and its guest believes only the identity of Verified.Issuer.
func (a *Authority) Answer(v *Verified, certificatePEM []byte, key Secret) (*Answer, error) {
	r := v.request
	if r.Profile != a.Profile() {
		return nil, fmt.Errorf("answer a request of profile %d with an identity of profile %d", r.Profile, a.Profile())
	}
	var serverPk string
	var err error
	switch to := v.key.(type) {
	case *rsa.PublicKey:
		serverPk, err = wrap(to, key)
	case *ecdsa.PublicKey:
		serverPk, err = seal(to, binding{purpose: purposeAnswer, instance: v.instanceID, arn: r.ARN, nonce: r.Nonce}, key)
	}
	if err != nil {
		return nil, err
	}
	answer := &Answer{
		CertificateARN:    r.ARN,
		ServerCertificate: base64.StdEncoding.EncodeToString(certificatePEM),
		ServerPk:          serverPk,
	}
	signature, err := a.sign(answer.canonical(r))
	if err != nil {
		return nil, fmt.Errorf("sign answer: %w", err)
	}
	answer.Signature = base64.StdEncoding.EncodeToString(signature)
	return answer, nil
}

// canonical is the text that IAMPK signs. Profile 1's says nothing of the request: one of its known weaknesses.
func (a *Answer) canonical(r *Request) []byte {
	if r.Profile == Profile1 {
		return []byte(a.ServerCertificate + "&" + a.ServerPk)
	}
	return []byte(strings.Join([]string{"2", a.CertificateARN, r.Nonce, a.ServerCertificate, a.ServerPk}, "&"))
}

// Open verifies with IAMCERT that answer is the cloud's to this very request and opens the key with LBPK. The key
// must belong to the certificate.
func (r *Request) Open(answer *Answer, iamCertPEM []byte, id Identity) (*ServerCertificate, error) {
	iamCert, err := parseCertificate(iamCertPEM)
	if err != nil {
		return nil, fmt.Errorf("IAMCERT: %w", err)
	}
	cert, key, err := id.parse()
	if err != nil {
		return nil, err
	}
	if ProfileOf(iamCert.PublicKey) != r.Profile || ProfileOf(cert.PublicKey) != r.Profile {
		return nil, fmt.Errorf("IAMCERT or LBCERT is not one of profile %d", r.Profile)
	}
	signature, err := decodeBase64(answer.Signature)
	if err != nil || answer.CertificateARN != r.ARN || !verify(iamCert.PublicKey, answer.canonical(r), signature) {
		return nil, ErrAnswer
	}
	certificate, err := decodeBase64(answer.ServerCertificate)
	if err != nil {
		return nil, ErrAnswer
	}
	var userKey Secret
	switch own := key.(type) {
	case *rsa.PrivateKey:
		userKey, err = unwrap(own, answer.ServerPk)
	case *ecdsa.PrivateKey:
		want := binding{purpose: purposeAnswer, instance: cert.Subject.CommonName, arn: r.ARN, nonce: r.Nonce}
		userKey, err = open(own, want, answer.ServerPk)
	}
	if err != nil {
		return nil, ErrAnswer
	}
	if _, err := tls.X509KeyPair(certificate, userKey); err != nil {
		userKey.Wipe()
		return nil, ErrAnswer
	}
	return &ServerCertificate{CertificatePEM: certificate, Key: userKey}, nil
}

// answerXML has the original's literal element names, prefix and all: its guests look for exactly these.
type answerXML struct {
	XMLName   xml.Name `xml:"euca:DownloadServerCertificateResponseType"`
	Namespace string   `xml:"xmlns:euca,attr"`
	Result    struct {
		ARN         string `xml:"euca:certificateArn"`
		Certificate string `xml:"euca:serverCertificate"`
		Pk          string `xml:"euca:serverPk"`
		Signature   string `xml:"euca:signature"`
	} `xml:"euca:downloadServerCertificateResult"`
	RequestID string `xml:"euca:ResponseMetadata>euca:RequestId"`
}

// MarshalXMLBody returns the answer as the response's body.
func (a *Answer) MarshalXMLBody(requestID string) ([]byte, error) {
	out := answerXML{Namespace: Namespace, RequestID: requestID}
	out.Result.ARN, out.Result.Certificate = a.CertificateARN, a.ServerCertificate
	out.Result.Pk, out.Result.Signature = a.ServerPk, a.Signature
	body, err := xml.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return append([]byte(xml.Header), body...), nil
}

// ParseAnswer reads a response's body.
func ParseAnswer(body []byte) (*Answer, error) {
	if len(body) > 4*maxField {
		return nil, fmt.Errorf("answer of %d bytes is too long", len(body))
	}
	var in struct {
		XMLName xml.Name `xml:"DownloadServerCertificateResponseType"`
		Result  struct {
			ARN         string `xml:"certificateArn"`
			Certificate string `xml:"serverCertificate"`
			Pk          string `xml:"serverPk"`
			Signature   string `xml:"signature"`
		} `xml:"downloadServerCertificateResult"`
	}
	if err := xml.NewDecoder(bytes.NewReader(body)).Decode(&in); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	r := in.Result
	if r.Certificate == "" || r.Pk == "" || r.Signature == "" {
		return nil, errors.New("answer lacks serverCertificate, serverPk or signature")
	}
	return &Answer{CertificateARN: r.ARN, ServerCertificate: r.Certificate, ServerPk: r.Pk, Signature: r.Signature}, nil
}
