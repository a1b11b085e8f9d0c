package elb

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
)

// The protocols of a listener and of its instances.
const (
	protocolHTTP  = "HTTP"
	protocolHTTPS = "HTTPS"
	protocolTCP   = "TCP"
	protocolSSL   = "SSL"
)

const maxPort = 65535

// layerSeven says whether a protocol is HTTP or HTTPS; the others are TCP and SSL. A listener and its instances
// speak on the same layer.
func layerSeven(protocol string) bool { return protocol == protocolHTTP || protocol == protocolHTTPS }

func invalidParameter(format string, args ...any) error {
	return model.Errorf("ValidationError", http.StatusBadRequest, format, args...)
}

// parseListeners reads the listeners of a request, which are to stand beside those in existing. It checks
// everything but the certificates' existence.
func parseListeners(in []elbmodel.Listener, accountID string, existing []Listener) ([]Listener, error) {
	if len(in) == 0 {
		return nil, invalidParameter("Listeners must hold at least one listener")
	}
	all := slices.Clone(existing)
	for _, l := range in {
		parsed, err := parseListener(l, accountID)
		if err != nil {
			return nil, err
		}
		if err := fits(parsed, all); err != nil {
			return nil, err
		}
		if !slices.Contains(all, parsed) {
			all = append(all, parsed)
		}
	}
	slices.SortFunc(all, func(a, b Listener) int { return cmp.Compare(a.Port, b.Port) })
	return all, nil
}

func parseListener(in elbmodel.Listener, accountID string) (Listener, error) {
	l := Listener{
		Protocol:         strings.ToUpper(model.Val(in.Protocol)),
		InstanceProtocol: strings.ToUpper(model.Val(in.InstanceProtocol)),
		CertificateARN:   model.Val(in.SSLCertificateId),
	}
	for _, p := range []struct {
		field string
		value int64
		into  *int
	}{
		{"LoadBalancerPort", model.Val(in.LoadBalancerPort), &l.Port},
		{"InstancePort", model.Val(in.InstancePort), &l.InstancePort},
	} {
		if p.value < 1 || p.value > maxPort {
			return l, invalidParameter("%s %d is not valid: it must be from 1 to %d", p.field, p.value, maxPort)
		}
		*p.into = int(p.value)
	}
	if err := checkProtocols(&l); err != nil {
		return l, err
	}
	return l, checkCertificateField(l, accountID)
}

func checkProtocols(l *Listener) error {
	switch l.Protocol {
	case protocolHTTP, protocolHTTPS, protocolTCP, protocolSSL:
	default:
		return elbmodel.ErrUnsupportedProtocol("Protocol %q is not supported: it must be HTTP, HTTPS, TCP or SSL",
			l.Protocol)
	}
	switch l.InstanceProtocol {
	case "":
		if l.InstanceProtocol = protocolTCP; layerSeven(l.Protocol) {
			l.InstanceProtocol = protocolHTTP
		}
	case protocolHTTP, protocolHTTPS, protocolTCP, protocolSSL:
	default:
		return elbmodel.ErrUnsupportedProtocol("InstanceProtocol %q is not supported: it must be HTTP, HTTPS, TCP or SSL",
			l.InstanceProtocol)
	}
	if layerSeven(l.Protocol) != layerSeven(l.InstanceProtocol) {
		return elbmodel.ErrInvalidConfigurationRequest(
			"InstanceProtocol %s does not go with Protocol %s: both must be of HTTP and HTTPS or both of TCP and SSL",
			l.InstanceProtocol, l.Protocol)
	}
	return nil
}

// certificatePattern is the ARN of a server certificate: account, then path and name.
var certificatePattern = regexp.MustCompile(
	`^arn:aws:iam::([0-9]{12}):server-certificate(/[!-.0-~]+)*/[A-Za-z0-9+=,.@_-]{1,128}$`)

func checkCertificateField(l Listener, accountID string) error {
	if !l.secure() {
		if l.CertificateARN != "" {
			return elbmodel.ErrInvalidConfigurationRequest(
				"SSLCertificateId is only for HTTPS and SSL listeners; the listener on port %d is %s", l.Port, l.Protocol)
		}
		return nil
	}
	if l.CertificateARN == "" {
		return elbmodel.ErrCertificateNotFound("The %s listener on port %d needs an SSLCertificateId", l.Protocol, l.Port)
	}
	return checkCertificateARN(l.CertificateARN, accountID)
}

// checkCertificateARN refuses what is no server certificate's ARN and what belongs to another account, in the same
// words as a certificate that does not exist.
func checkCertificateARN(arn, accountID string) error {
	match := certificatePattern.FindStringSubmatch(arn)
	if match == nil || match[1] != accountID {
		return certificateNotFound(arn)
	}
	return nil
}

func certificateNotFound(arn string) error {
	return elbmodel.ErrCertificateNotFound("Server Certificate not found for the key: %s", arn)
}

// fits checks a listener against those it is to stand beside. The very same listener fits: asking twice is no
// conflict.
func fits(l Listener, others []Listener) error {
	for _, o := range others {
		if o == l {
			return nil
		}
		if o.Port == l.Port {
			return elbmodel.ErrDuplicateListener(
				"A listener already exists for LoadBalancerPort %d, but with a different InstancePort, Protocol, or "+
					"SSLCertificateId", l.Port)
		}
		secure := func(p string) bool { return p == protocolHTTPS || p == protocolSSL }
		if o.InstancePort == l.InstancePort && secure(o.InstanceProtocol) != secure(l.InstanceProtocol) {
			return elbmodel.ErrInvalidConfigurationRequest(
				"InstancePort %d is used by another listener with InstanceProtocol %s, so %s cannot be used with it",
				l.InstancePort, o.InstanceProtocol, l.InstanceProtocol)
		}
	}
	return nil
}

// checkCertificates makes sure that every certificate that the listeners name exists.
func (s *Service) checkCertificates(ctx context.Context, listeners []Listener) error {
	for _, l := range listeners {
		if !l.secure() {
			continue
		}
		if _, err := s.certificateRevision(ctx, l.CertificateARN); err != nil {
			return err
		}
	}
	return nil
}

// certificateRevision returns CertificateNotFound for a certificate that does not exist.
func (s *Service) certificateRevision(ctx context.Context, arn string) (string, error) {
	revision, err := s.cfg.IAM.ServerCertificateRevision(ctx, arn)
	var answer *model.Error
	if errors.As(err, &answer) && answer.Code == "NoSuchEntity" {
		return "", certificateNotFound(arn)
	}
	return revision, err
}
