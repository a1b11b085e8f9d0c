package cloud

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/cloudtwin/cloudtwin/cloud/api"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/sts"
)

// listen binds every address before anything is served, so that a busy port is found at the start.
func (c *Cloud) listen(ctx context.Context) error {
	for _, l := range []struct {
		what    string
		address string
		into    *net.Listener
	}{
		{"API", c.cfg.APIAddress, &c.api},
		{"API over TLS", c.cfg.TLSAddress, &c.apiTLS},
		{"nodes", c.cfg.NodeAddress, &c.nodes},
	} {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", l.address)
		if err != nil {
			return fmt.Errorf("listen for %s: %w", l.what, err)
		}
		*l.into = listener
		c.onClose(func() error {
			if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
				return err
			}
			return nil
		})
	}
	return nil
}

func (c *Cloud) serve(context.Context) error {
	handler, err := api.New(c.frontDoor())
	if err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(c.apiTLS.Addr().String())
	if err != nil {
		return fmt.Errorf("address of the API: %w", err)
	}
	cert, err := c.placement.CA().SignServer(guestAPI, "127.0.0.1", "localhost", host)
	if err != nil {
		return fmt.Errorf("certificate of the API: %w", err)
	}
	plain, secure := api.Server(handler, c.cfg.Logger), api.Server(handler, c.cfg.Logger)
	secure.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	c.http = append(c.http, plain, secure)
	c.background("API", func() error { return plain.Serve(c.api) })
	c.background("API over TLS", func() error { return secure.ServeTLS(c.apiTLS, "", "") })
	c.handed = newHanded(c.apiTLS.Addr())
	c.background("API over TLS, from within", func() error { return secure.ServeTLS(c.handed, "", "") })
	return c.serveNodes()
}

// frontDoor binds the services to the API.
func (c *Cloud) frontDoor() api.Config {
	stsService := sts.New(c.iam, sts.WithClock(c.cfg.Clock))
	return api.Config{
		Identity: c.iam, Authorizer: c.iam, Journal: c.journal, Logger: c.cfg.Logger, Clock: c.cfg.Clock,
		Trouble: c.faults.API,
		Services: []api.Binding{
			{Service: iammodel.Service(), Operations: iammodel.Operations(), Handlers: iammodel.Handlers(c.iam),
				Resources: c.iam.Resources, Conditions: c.iam.Conditions, Raw: map[string]api.RawHandler{
					keydelivery.Action: c.iam.DownloadServerCertificate}, Refused: map[string]api.RefusedFunc{
					keydelivery.Action: c.auditUnsigned}},
			{Service: stsmodel.Service(), Operations: stsmodel.Operations(), Handlers: stsmodel.Handlers(stsService),
				Resources: stsService.Resources, SelfAuthorized: stsService.SelfAuthorized(),
				Conditions: stsService.Conditions, Unsigned: stsService.Unsigned()},
			{Service: ec2model.Service(), Operations: ec2model.Operations(), Handlers: ec2model.Handlers(c.ec2),
				Resources: c.ec2.Resources, Conditions: c.ec2.Conditions},
			{Service: elbmodel.Service(), Operations: elbmodel.Operations(), Handlers: elbmodel.Handlers(c.elb),
				Resources: c.elb.Resources, Conditions: c.elb.Conditions, Raw: map[string]api.RawHandler{
					servo.DescribeAction: c.elb.DescribeLoadBalancersByServo, servo.PutAction: c.elb.PutServoStates}},
		},
	}
}

func (c *Cloud) serveNodes() error {
	ca := c.placement.CA()
	cert, err := ca.SignServer(nodelink.ServerName)
	if err != nil {
		return fmt.Errorf("certificate for nodes: %w", err)
	}
	c.grpc = nodelink.NewServer(nodelink.ServerTLS(cert, ca.Pool()))
	nodelink.RegisterEnrolmentServer(c.grpc, c.placement.EnrolmentServer())
	nodelink.RegisterNodeLinkServer(c.grpc, c.ec2.NodeServer())
	nodelink.RegisterNodeFaultsServer(c.grpc, c.faults.Server(c.admitNode))
	nodelink.RegisterNodeScreensServer(c.grpc, c.ec2.ScreenServer(c.admitNode))
	c.background("nodes", func() error { return c.grpc.Serve(c.nodes) })
	return nil
}

// background serves until Close. What ends a server before that is logged; the others go on.
func (c *Cloud) background(what string, serve func() error) {
	c.serving.Go(func() {
		if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			c.cfg.Logger.Error("stopped serving", "what", what, "error", err)
		}
	})
}

// nodeServices is what nodes are told about this cloud's endpoints.
func (c *Cloud) nodeServices() *nodelink.Services {
	caPEM := c.placement.CA().CertPEM()
	services := &nodelink.Services{
		GuestAddress: net.JoinHostPort(guestAPI, "443"), ApiAddress: c.apiTLS.Addr().String(),
		ApiUrl: "https://" + guestAPI, CaPem: caPEM, CloudCertPem: caPEM, Region: c.cfg.Region,
	}
	if plain := c.cfg.originalGuestAddress(); plain != "" {
		services.GuestPlainAddress, services.ApiPlainAddress = plain, c.api.Addr().String()
	}
	return services
}
