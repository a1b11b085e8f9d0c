package iam

import (
	"bytes"
	"context"
	"encoding/csv"
	"slices"
	"strconv"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// reportLife is how long a credential report is returned, and not made anew.
const reportLife = 4 * time.Hour

// credentialReport lies under the account's id.
type credentialReport struct {
	Made time.Time
	CSV  string
}

// reportColumns are those of AWS's report. There are no passwords here, so theirs say so.
func reportColumns() []string {
	return []string{
		"user", "arn", "user_creation_time", "password_enabled", "password_last_used", "password_last_changed",
		"password_next_rotation", "mfa_active", "access_key_1_active", "access_key_1_last_rotated",
		"access_key_1_last_used_date", "access_key_1_last_used_region", "access_key_1_last_used_service",
		"access_key_2_active", "access_key_2_last_rotated", "access_key_2_last_used_date", "access_key_2_last_used_region",
		"access_key_2_last_used_service", "cert_1_active", "cert_1_last_rotated", "cert_2_active", "cert_2_last_rotated",
	}
}

const notApplicable = "N/A"

// GenerateCredentialReport makes the account's report, or keeps one that is younger than four hours. It is complete
// when the answer comes.
func (s *Service) GenerateCredentialReport(
	ctx context.Context, _ *iammodel.GenerateCredentialReportInput,
) (*iammodel.GenerateCredentialReportOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	out := &iammodel.GenerateCredentialReportOutput{State: model.Ptr(iammodel.ReportStateTypeCOMPLETE)}
	have, err := s.reports.Get(ctx, id)
	if err := ignoreMissing(err); err != nil {
		return nil, err
	}
	if err == nil && s.now().Before(have.Made.Add(reportLife)) {
		return out, nil
	}
	text, err := s.credentialCSV(ctx, id)
	if err != nil {
		return nil, err
	}
	out.Description = model.Ptr("No report exists. A new report was made.")
	return out, s.reports.Put(ctx, id, credentialReport{Made: s.now(), CSV: text})
}

// GetCredentialReport returns the report that GenerateCredentialReport made.
func (s *Service) GetCredentialReport(
	ctx context.Context, _ *iammodel.GetCredentialReportInput,
) (*iammodel.GetCredentialReportOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	have, err := s.reports.Get(ctx, id)
	switch {
	case isMissing(err):
		return nil, iammodel.ErrReportNotPresent("No report exists. Call GenerateCredentialReport first.")
	case err != nil:
		return nil, err
	case !s.now().Before(have.Made.Add(reportLife)):
		return nil, iammodel.ErrReportExpired("Report has expired. Call GenerateCredentialReport for a new one.")
	}
	return &iammodel.GetCredentialReportOutput{
		Content: []byte(have.CSV), GeneratedTime: model.Ptr(have.Made),
		ReportFormat: model.Ptr(iammodel.ReportFormatTypeTextCsv),
	}, nil
}

func (s *Service) credentialCSV(ctx context.Context, accountID string) (string, error) {
	rec, err := s.accounts.Get(ctx, accountID)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write(reportColumns()) // a bytes.Buffer does not fail
	certs, err := s.signingRecords(ctx, accountID, rec.SigningCerts)
	if err != nil {
		return "", err
	}
	row, err := s.reportRow(ctx, "<root_account>", rootARN(accountID), rec.Created, false, rec.RootKeys, certs)
	if err != nil {
		return "", err
	}
	_ = w.Write(row)
	users, err := s.users.List(ctx, accountID+"/")
	if err != nil {
		return "", err
	}
	for i := range users {
		u := &users[i]
		certs, err := s.signingRecords(ctx, accountID, u.SigningCerts)
		if err != nil {
			return "", err
		}
		row, err := s.reportRow(ctx, u.Name, u.arn(), u.Created, len(u.MFADevices) > 0, u.AccessKeys, certs)
		if err != nil {
			return "", err
		}
		_ = w.Write(row)
	}
	w.Flush()
	return b.String(), w.Error()
}

// signingRecords reads certificates. One that was deleted since its user was read counts as one that is not there.
func (s *Service) signingRecords(ctx context.Context, accountID string, ids []string) ([]signingRecord, error) {
	var certs []signingRecord
	for _, id := range ids {
		c, err := s.signing.Get(ctx, accountID+"/"+id)
		if err := ignoreMissing(err); err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	return certs, nil
}

func (s *Service) reportRow(ctx context.Context, name, arn string, created time.Time, mfa bool, keys []string,
	certs []signingRecord,
) ([]string, error) {
	password := []string{"false", notApplicable, notApplicable, notApplicable}
	if name == "<root_account>" {
		password[0] = "not_supported"
	}
	row := append([]string{name, arn, created.Format(time.RFC3339)}, password...)
	row = append(row, strconv.FormatBool(mfa))
	keys = slices.Sorted(slices.Values(keys))
	for i := range 2 {
		cells := []string{"false", notApplicable, notApplicable, notApplicable, notApplicable}
		if i < len(keys) {
			k, err := s.accessKeys.cached(ctx, keys[i])
			if err := ignoreMissing(err); err != nil {
				return nil, err
			}
			if err == nil {
				cells[0], cells[1] = strconv.FormatBool(k.Active), k.Created.Format(time.RFC3339)
			}
			u, err := s.uselog.last(ctx, useKey{of: keys[i]})
			if err := ignoreMissing(err); err != nil {
				return nil, err
			}
			if err == nil {
				cells[2], cells[3], cells[4] = u.At.Format(time.RFC3339), u.Region, u.Service
			}
		}
		row = append(row, cells...)
	}
	for i := range 2 {
		cells := []string{"false", notApplicable}
		if i < len(certs) {
			cells = []string{strconv.FormatBool(certs[i].Active), certs[i].Uploaded.Format(time.RFC3339)}
		}
		row = append(row, cells...)
	}
	return row, nil
}
