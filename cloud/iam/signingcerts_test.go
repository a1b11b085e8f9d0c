package iam_test

import (
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// TestRootSigningCertificates: the root user has certificates of its own, at most two, beside those of users.
func TestRootSigningCertificates(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	w.user(t, "alice", "")
	upload := func(user *string, p pair) (string, error) {
		out, err := w.UploadSigningCertificate(ctx, &iammodel.UploadSigningCertificateInput{
			UserName: user, CertificateBody: &p.cert})
		if err != nil {
			return "", err
		}
		return *out.Certificate.CertificateId, nil
	}
	pairs := []pair{newPair(t, pairSpec{now: w.clock.Now()}), newPair(t, pairSpec{now: w.clock.Now()}),
		newPair(t, pairSpec{now: w.clock.Now()})}
	first, err := upload(nil, pairs[0])
	wantCode(t, err, "")
	_, err = upload(nil, pairs[0])
	wantCode(t, err, "DuplicateCertificate")
	_, err = upload(nil, pairs[1])
	wantCode(t, err, "")
	_, err = upload(nil, pairs[2])
	wantCode(t, err, "LimitExceeded")
	_, err = upload(model.Ptr("alice"), pairs[2])
	wantCode(t, err, "")
	list := func(user *string) []iammodel.SigningCertificate {
		return must(ctx, t, w.ListSigningCertificates, &iammodel.ListSigningCertificatesInput{UserName: user}).Certificates
	}
	if own, hers := list(nil), list(model.Ptr("alice")); len(own) != 2 || len(hers) != 1 || own[0].UserName != nil {
		t.Errorf("certificates %v and %v", own, hers)
	}
	summary := must(ctx, t, w.GetAccountSummary, &iammodel.GetAccountSummaryInput{}).SummaryMap
	if summary["AccountSigningCertificatesPresent"] != 1 {
		t.Errorf("summary %v", summary)
	}
	must(ctx, t, w.UpdateSigningCertificate, &iammodel.UpdateSigningCertificateInput{
		CertificateId: &first, Status: model.Ptr("Inactive")})
	_, err = w.DeleteSigningCertificate(ctx, &iammodel.DeleteSigningCertificateInput{
		UserName: model.Ptr("alice"), CertificateId: &first})
	wantCode(t, err, "NoSuchEntity")
	must(ctx, t, w.DeleteSigningCertificate, &iammodel.DeleteSigningCertificateInput{CertificateId: &first})
	if own := list(nil); len(own) != 1 || *own[0].CertificateId == first {
		t.Errorf("certificates %v after one was deleted", own)
	}
}
