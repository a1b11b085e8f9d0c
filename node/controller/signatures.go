package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/imds"
)

var _ imds.Signer = (*Controller)(nil)

// errNoGuest means that the instance is not this node's any more.
var errNoGuest = errors.New("no such guest")

// signatureCache holds the signatures of one instance's identity document, which stays the same for its life.
type signatureCache struct {
	mu   sync.Mutex // held while the cloud is asked, so that a burst of guests' requests asks once
	have imds.Signatures
}

// Signatures implements imds.Signer. The cloud signs what it knows of the instance itself, so a node can have nothing
// else signed.
func (c *Controller) Signatures(ctx context.Context, id string) (imds.Signatures, error) {
	g := c.guest(id)
	if g == nil {
		return imds.Signatures{}, errNoGuest
	}
	if err := c.cfg.Trouble.Gate(ctx); err != nil {
		return imds.Signatures{}, err
	}
	g.signatures.mu.Lock()
	defer g.signatures.mu.Unlock()
	if g.signatures.have.Signature != "" {
		return g.signatures.have, nil
	}
	if ours := g.wish().GetTraceparent(); !nodelink.SameTrace(ctx, ours) {
		ctx = nodelink.WithTrace(ctx, ours)
	}
	answer, err := c.cfg.Cloud.InstanceIdentity(ctx, &nodelink.InstanceIdentityRequest{InstanceId: id})
	if err != nil {
		return imds.Signatures{}, fmt.Errorf("ask the cloud to sign the identity document of %s: %w", id, err)
	}
	g.signatures.have = imds.Signatures{
		Signature: answer.GetSignature(), PKCS7: answer.GetPkcs7(), RSA2048: answer.GetRsa2048(),
	}
	return g.signatures.have, nil
}
