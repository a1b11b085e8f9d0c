package main

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

const (
	// firstDeliveries warm the caches up and tell how many a turn needs.
	firstDeliveries = 400
	guestsPerCore   = 32
	// quickPart is the part of a turn's deliveries whose times are taken.
	quickPart = 4
	// deliveryAim is the share of the limit that deliveries should reach.
	deliveryAim = 0.5
)

// delivery is an iam with everything that a delivery needs: an uploaded certificate, a load balancer's role that is
// granted it, and an LBVM with its identity and role session.
type delivery struct {
	iam      *iam.Service
	arn      string
	pair     *pki.Pair
	identity keydelivery.Identity
	caller   authn.Caller
	events   *journal.Journal
	dir      string // of its files
	closers  []func() error
}

// benchDelivery measures DownloadServerCertificate in profile 2 from the front door inwards, all checks and the audit
// included, on all cores.
func benchDelivery(ctx context.Context, s *suite) error {
	return measureDelivery(ctx, s, deliveryBench{
		profile: keydelivery.Profile2, rate: nameDeliveryRate, p99: nameDeliveryP99,
		limit: func(userKey []byte) (func() error, error) {
			limit, err := newCryptoLimit(userKey)
			if err != nil {
				return nil, err
			}
			return limit.once, nil
		},
	})
}

// deliveryBench is one profile's measurement.
type deliveryBench struct {
	profile   keydelivery.Profile
	rate, p99 string // names
	// limit returns a function that does the profile's cryptography alone, for one delivery.
	limit func(userKey []byte) (func() error, error)
}

func measureDelivery(ctx context.Context, s *suite, b deliveryBench) (err error) {
	d, err := openDelivery(ctx, s.room, b.profile)
	defer func() { err = errors.Join(err, d.close()) }()
	if err != nil {
		return err
	}
	limit, err := b.limit(d.pair.KeyPEM)
	if err != nil {
		return err
	}
	cores := runtime.GOMAXPROCS(0)
	// Each delivery waits until its audit is on the disk, and those that wait together share one write: as many guests
	// ask at once as keep the cores busy meanwhile.
	guests := guestsPerCore * cores
	first, _, err := d.turn(ctx, guests, firstDeliveries)
	if err != nil {
		return err
	}
	// A turn is a number of deliveries, not a time: their requests are signed beforehand.
	each := max(guests, int(first.perSecond()*turn.Seconds()))
	var delivered, possible rate
	var latencies []time.Duration
	for range turns {
		r, _, err := d.turn(ctx, guests, each)
		if err != nil {
			return err
		}
		delivered.add(r)
		// How long one takes is not how long many wait for each other.
		_, took, err := d.turn(ctx, cores, max(cores, each/quickPart))
		if err != nil {
			return err
		}
		latencies = append(latencies, took...)
		if r, err = drive(ctx, cores, turn, func(int) error { return limit() }); err != nil {
			return err
		}
		possible.add(r)
	}
	reference := fmt.Sprintf("its cryptography alone, %d cores; %d guests ask at once", cores, guests)
	s.emit(result{Name: b.rate, Value: delivered.perSecond(), Unit: perSecond}.
		against(reference, possible.perSecond(), atLeast(deliveryAim)))
	s.emit(result{Name: b.p99, Value: percentile(latencies, 99).Seconds(), Unit: seconds}.
		against("mean of its cryptography alone", float64(cores)/possible.perSecond(), aim{}))
	return nil
}

func openDelivery(ctx context.Context, room *workroom, profile keydelivery.Profile) (*delivery, error) {
	d := &delivery{}
	dir, err := room.scratch()
	if err != nil {
		return d, err
	}
	records, err := store.Open(ctx, store.Config{Dir: filepath.Join(dir, "cloud")})
	if err != nil {
		return d, err
	}
	d.closers = append(d.closers, records.Close)
	events, err := journal.Open(filepath.Join(dir, "journal.jsonl"))
	if err != nil {
		return d, err
	}
	d.closers = append(d.closers, events.Close)
	d.events, d.dir = events, dir
	d.iam, err = iam.New(ctx, iam.Config{Store: records, Journal: events, RootKeyFile: filepath.Join(dir, "root.key"),
		MinDeliveryProfile: profile})
	if err != nil {
		return d, err
	}
	d.closers = append(d.closers, func() error { d.iam.Close(); return nil })
	return d, errors.Join(d.upload(ctx), d.becomeLBVM(ctx, profile))
}

func (d *delivery) close() error {
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		errs = append(errs, d.closers[i]())
	}
	return errors.Join(errs...)
}

// upload makes the user's account and uploads a certificate into it.
func (d *delivery) upload(ctx context.Context) error {
	if _, err := d.iam.EnsureAccount(ctx, cloud.SystemAccountID, cloud.SystemAccount, true); err != nil {
		return err
	}
	if _, err := d.iam.EnsureAccount(ctx, cloud.UserAccountID, cloud.UserAccount, false); err != nil {
		return err
	}
	keyID, secret, err := d.iam.EnsureRootKey(ctx, cloud.UserAccountID)
	if err != nil {
		return err
	}
	secret.Wipe()
	_, root, err := d.iam.Identify(ctx, keyID, "")
	if err != nil {
		return err
	}
	ca, err := pki.NewAuthority("benchmark CA")
	if err != nil {
		return err
	}
	if d.pair, err = ca.Server(pki.P256, hostname); err != nil {
		return err
	}
	name, cert, key, chain := hostname, string(d.pair.CertPEM), string(d.pair.KeyPEM), string(ca.PEM)
	out, err := d.iam.UploadServerCertificate(authn.WithCaller(ctx, root), &iammodel.UploadServerCertificateInput{
		ServerCertificateName: &name, CertificateBody: &cert, PrivateKey: &key, CertificateChain: &chain})
	if err != nil {
		return err
	}
	d.arn = *out.ServerCertificateMetadata.Arn
	return nil
}

// becomeLBVM makes the role with its grant as elb does, and an LBVM's identity and session as ec2 does.
func (d *delivery) becomeLBVM(ctx context.Context, profile keydelivery.Profile) error {
	const role, instance = "loadbalancer-vm-" + cloud.UserAccountID + "-bench", "i-00000000000000be1"
	if err := d.iam.EnsureServiceRole(ctx, iam.ServiceRole{AccountID: cloud.SystemAccountID, Name: role,
		Path: "/internal/loadbalancer", TrustService: iam.ServiceEC2}); err != nil {
		return err
	}
	grant, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []map[string]any{
		{"Effect": "Allow", "Action": iam.ActionDownload, "Resource": d.arn}}})
	if err != nil {
		return err
	}
	if err := d.iam.PutServiceRolePolicy(ctx, cloud.SystemAccountID, role, "grant", string(grant)); err != nil {
		return err
	}
	var key crypto.Signer
	var text keydelivery.Secret
	if profile == keydelivery.Profile1 {
		key, text, err = keydelivery.NewRSALBKey()
	} else {
		key, text, err = keydelivery.NewLBKey()
	}
	if err != nil {
		return err
	}
	cert, _, err := d.iam.SignLBCert(ctx, instance, key.Public(), 365*24*time.Hour)
	if err != nil {
		return err
	}
	d.identity = keydelivery.Identity{CertPEM: cert, Key: text}
	session, err := d.iam.InstanceCredentials(ctx, cloud.SystemAccountID, role, instance)
	if err != nil {
		return err
	}
	_, d.caller, err = d.iam.Identify(ctx, session.AccessKeyID, session.Token)
	d.caller.RequestID = "bench"
	return err
}

// turn makes n deliveries. The requests are signed before the clock starts: that is the guests' work.
func (d *delivery) turn(ctx context.Context, workers, n int) (rate, []time.Duration, error) {
	forms := make([]url.Values, n)
	if _, _, err := spread(ctx, workers, n, func(i int) error {
		request, err := keydelivery.NewRequest(d.arn, d.identity, time.Now())
		if err == nil {
			forms[i] = request.Form()
		}
		return err
	}); err != nil {
		return rate{}, nil, err
	}
	runtime.GC() // what signing left is not the deliveries' to clean up
	ctx = authn.WithCaller(ctx, d.caller)
	return spread(ctx, workers, n, func(i int) error {
		_, _, err := d.iam.DownloadServerCertificate(ctx, forms[i])
		return err
	})
}
