package iam_test

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wire runs one operation through the wire's decoder and encoder.
func (w *world) wire(ctx context.Context, op string, form url.Values) (string, error) {
	h := w.Handlers()[op]
	in, err := h.Decode(form)
	if err != nil {
		return "", err
	}
	out, err := h.Call(ctx, in)
	if err != nil {
		return "", err
	}
	body, err := h.Encode(out, "", "req-1")
	return string(body), err
}

// TestConformance is one session over the wire that uses every operation once, each with what its answer must hold.
func TestConformance(t *testing.T) {
	w := newWorld(t)
	p := newPair(t, pairSpec{now: w.clock.Now()})
	ctx := w.root(t, demoAccount)
	user, role, profile := []string{"alice"}, []string{"s3access"}, []string{"s3access"}
	cert, policy := []string{"www"}, []string{"s3star"}
	doc := []string{allow("s3:*", "*")}
	steps := []step{
		{"CreateUser", url.Values{"UserName": user, "Path": {"/team/"}}, "<UserId>AIDA"},
		{"GetUser", url.Values{"UserName": user}, "<Arn>arn:aws:iam::123456789012:user/team/alice</Arn>"},
		{"ListUsers", url.Values{}, "<member>"},
		{"GetLoginProfile", url.Values{"UserName": user}, "NoSuchEntity: Login Profile for User alice cannot be found"},
		{"DeleteLoginProfile", url.Values{"UserName": user}, "NoSuchEntity: Login Profile for User alice cannot be found"},
		{"GetAccountPasswordPolicy", url.Values{}, "NoSuchEntity: The Password Policy with domain name 123456789012"},
		{"DeleteAccountPasswordPolicy", url.Values{}, "NoSuchEntity: The Password Policy with domain name 123456789012"},
		{"ListSSHPublicKeys", url.Values{"UserName": user}, "<IsTruncated>false</IsTruncated>"},
		{"ListServiceSpecificCredentials", url.Values{"UserName": user}, "<ServiceSpecificCredentials></"},
		{"UpdateUser", url.Values{"UserName": user, "NewPath": {"/"}}, "<RequestId>req-1</RequestId>"},
		{"PutUserPolicy", url.Values{"UserName": user, "PolicyName": policy, "PolicyDocument": doc}, "PutUserPolicyResponse"},
		{"GetUserPolicy", url.Values{"UserName": user, "PolicyName": policy}, "<PolicyDocument>%7B%22Version%22"},
		{"ListUserPolicies", url.Values{"UserName": user}, "<member>s3star</member>"},
		{"DeleteUserPolicy", url.Values{"UserName": user, "PolicyName": policy}, "DeleteUserPolicyResponse"},
		{"CreateAccessKey", url.Values{"UserName": user}, "<AccessKeyId>AKIA"},
		{"ListAccessKeys", url.Values{"UserName": user}, "<Status>Active</Status>"},
		{"UpdateAccessKey", url.Values{"UserName": user, "AccessKeyId": {"KEY"}, "Status": {"Inactive"}}, "Response"},
		{"DeleteAccessKey", url.Values{"UserName": user, "AccessKeyId": {"KEY"}}, "Response"},
		{"DeleteUser", url.Values{"UserName": user}, "DeleteUserResponse"},
		{"CreateRole", url.Values{"RoleName": role, "AssumeRolePolicyDocument": {trustEC2}}, "<RoleId>AROA"},
		{"GetRole", url.Values{"RoleName": role}, "<AssumeRolePolicyDocument>%7B"},
		{"ListRoles", url.Values{}, "<RoleName>s3access</RoleName>"},
		{"UpdateRole", url.Values{"RoleName": role, "MaxSessionDuration": {"7200"}}, "UpdateRoleResponse"},
		{"UpdateAssumeRolePolicy", url.Values{"RoleName": role, "PolicyDocument": {trustEC2}}, "Response"},
		{"PutRolePolicy", url.Values{"RoleName": role, "PolicyName": policy, "PolicyDocument": doc}, "Response"},
		{"GetRolePolicy", url.Values{"RoleName": role, "PolicyName": policy}, "<PolicyName>s3star</PolicyName>"},
		{"ListRolePolicies", url.Values{"RoleName": role}, "<member>s3star</member>"},
		{"CreateInstanceProfile", url.Values{"InstanceProfileName": profile}, "<InstanceProfileId>AIPA"},
		{"AddRoleToInstanceProfile", url.Values{"InstanceProfileName": profile, "RoleName": role}, "Response"},
		{"GetInstanceProfile", url.Values{"InstanceProfileName": profile}, "<RoleName>s3access</RoleName>"},
		{"ListInstanceProfiles", url.Values{}, "<InstanceProfileName>s3access</InstanceProfileName>"},
		{"ListInstanceProfilesForRole", url.Values{"RoleName": role}, "<IsTruncated>false</IsTruncated>"},
		{"RemoveRoleFromInstanceProfile", url.Values{"InstanceProfileName": profile, "RoleName": role}, "Response"},
		{"DeleteInstanceProfile", url.Values{"InstanceProfileName": profile}, "Response"},
		{"DeleteRolePolicy", url.Values{"RoleName": role, "PolicyName": policy}, "Response"},
		{"DeleteRole", url.Values{"RoleName": role}, "Response"},
		{"UploadServerCertificate", url.Values{
			"ServerCertificateName": cert, "CertificateBody": {p.cert}, "PrivateKey": {p.key},
		}, "<ServerCertificateId>ASCA"},
		{"GetServerCertificate", url.Values{"ServerCertificateName": cert}, "<CertificateBody>-----BEGIN"},
		{"ListServerCertificates", url.Values{"PathPrefix": {"/"}}, "<Path>/</Path>"},
		{"UpdateServerCertificate", url.Values{"ServerCertificateName": cert, "NewPath": {"/n/"}}, "Response"},
		{"DeleteServerCertificate", url.Values{"ServerCertificateName": cert}, "Response"},
		{"GetAccountSummary", url.Values{}, "<key>UsersQuota</key>"},
	}
	steps = append(steps, moreSteps(t, p)...)
	codes := newDeviceCodes(w.clock.Now)
	var done []string
	keyID := ""
	for _, st := range steps {
		done = append(done, st.op)
		if st.form.Get("AccessKeyId") == "KEY" {
			st.form.Set("AccessKeyId", keyID)
		}
		codes.fill(st.form)
		body, err := w.wire(ctx, st.op, st.form)
		if err != nil && strings.HasPrefix(st.want, "NoSuchEntity") && strings.HasPrefix(err.Error(), st.want) {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", st.op, err)
		}
		if !strings.Contains(body, st.want) {
			t.Errorf("%s answers %s, which lacks %q", st.op, body, st.want)
		}
		if strings.Contains(body, "PRIVATE KEY") {
			t.Errorf("%s answers a private key", st.op)
		}
		codes.read(body)
		if st.op == "CreateAccessKey" {
			_, rest, _ := strings.Cut(body, "<AccessKeyId>")
			keyID, _, _ = strings.Cut(rest, "<")
		}
	}
	var all []string
	for op := range w.Handlers() {
		all = append(all, op)
	}
	slices.Sort(all)
	slices.Sort(done)
	done = slices.Compact(done)
	if diff := cmp.Diff(all, done); diff != "" {
		t.Errorf("operations without a step (-implemented +tried):\n%s", diff)
	}
	for table, records := range map[string]int{"iam-users": 0, "iam-roles": 0, "iam-instance-profiles": 0,
		"iam-server-certificates": 0, "iam-access-keys": 1, "iam-groups": 0, "iam-group-ids": 0, "iam-group-members": 0,
		"iam-policies": 0, "iam-policy-uses": 0, "iam-policy-holders": 0, "iam-mfa-devices": 0, "iam-identity-providers": 0,
		"iam-signing-certificates": 0, "iam-account-aliases": 0} {
		if n := w.count(t, table); n != records {
			t.Errorf("%d records left in %s, want %d", n, table, records)
		}
	}
}

func TestWireRefuses(t *testing.T) {
	w := newWorld(t)
	ctx := w.root(t, demoAccount)
	for _, tt := range []struct {
		name, op string
		form     url.Values
		code     string
		field    string
	}{
		{"missing name", "CreateUser", url.Values{}, "ValidationError", "userName"},
		{"bad name", "CreateUser", url.Values{"UserName": {"a b"}}, "ValidationError", "userName"},
		{"bad number", "ListUsers", url.Values{"MaxItems": {"ten"}}, "", "MaxItems"},
		{"page too large", "ListUsers", url.Values{"MaxItems": {"1001"}}, "ValidationError", "maxItems"},
		{"bad status", "UpdateAccessKey", url.Values{"AccessKeyId": {"AKIAAAAAAAAAAAAAAAAA"}, "Status": {"x"}},
			"ValidationError", "status"},
		{"no certificate", "UploadServerCertificate", url.Values{"ServerCertificateName": {"c"}, "PrivateKey": {"x"}},
			"ValidationError", "certificateBody"},
		{"no document", "CreateRole", url.Values{"RoleName": {"r"}}, "ValidationError", "assumeRolePolicyDocument"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.wire(ctx, tt.op, tt.form)
			if err == nil || tt.code != "" && code(err) != tt.code || !strings.Contains(err.Error(), tt.field) {
				t.Errorf("error %v, want %s that names %s", err, tt.code, tt.field)
			}
		})
	}
}
