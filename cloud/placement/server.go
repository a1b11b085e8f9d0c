package placement

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

type enrolmentServer struct {
	nodelink.UnimplementedEnrolmentServer
	service *Service
}

// EnrolmentServer answers the one nodelink call that needs no client certificate.
func (s *Service) EnrolmentServer() nodelink.EnrolmentServer { return &enrolmentServer{service: s} }

// Enrol answers PermissionDenied for a token that is not good, AlreadyExists for a taken id, InvalidArgument for a bad
// request, and Unavailable when the same request may succeed later.
func (e *enrolmentServer) Enrol(ctx context.Context, in *nodelink.EnrolRequest) (*nodelink.EnrolResponse, error) {
	cert, err := e.service.Enrol(ctx, in.GetToken(), in.GetNodeId(), in.GetCsrDer())
	switch {
	case err == nil:
		return &nodelink.EnrolResponse{NodeCertPem: certPEM(cert.Raw), CloudCaPem: e.service.cfg.CA.CertPEM()}, nil
	case errors.Is(err, ErrTokenRefused):
		return nil, status.Error(codes.PermissionDenied, ErrTokenRefused.Error())
	case errors.Is(err, ErrNodeExists):
		return nil, status.Error(codes.AlreadyExists, err.Error())
	case errors.Is(err, ErrRequest):
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, ErrNodeEnding):
		return nil, status.Error(codes.Unavailable, err.Error())
	default:
		return nil, status.Error(codes.Unavailable, "the cloud's store is not available")
	}
}
