package iam_test

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

// step is one request of TestConformance and what its answer must hold. A value in braces, such as {JobId}, stands for
// that element of an answer before.
type step struct {
	op   string
	form url.Values
	want string
}

// deviceCodes fills in what only the answers before tell: codes of an MFA device and the elements that steps name.
type deviceCodes struct {
	now    func() time.Time
	values map[string]string
}

func newDeviceCodes(now func() time.Time) *deviceCodes {
	return &deviceCodes{now: now, values: make(map[string]string)}
}

func (d *deviceCodes) read(body string) {
	for _, name := range []string{"Base32StringSeed", "JobId", "DeletionTaskId", "CertificateId"} {
		if _, rest, ok := strings.Cut(body, "<"+name+">"); ok {
			d.values[name], _, _ = strings.Cut(rest, "<")
		}
	}
}

func (d *deviceCodes) fill(form url.Values) {
	for name, values := range form {
		for i, v := range values {
			if key, ok := strings.CutPrefix(v, "{"); ok && strings.HasSuffix(v, "}") && !strings.Contains(v, `"`) {
				key = strings.TrimSuffix(key, "}")
				form[name][i] = d.value(key)
			}
		}
	}
}

func (d *deviceCodes) value(key string) string {
	offset, ok := map[string]time.Duration{
		"Code1": -30 * time.Second, "Code2": 0, "Code3": 30 * time.Second, "Code4": time.Minute,
	}[key]
	if !ok {
		return d.values[key]
	}
	seed, err := base64.StdEncoding.DecodeString(d.values["Base32StringSeed"])
	if err != nil {
		return err.Error()
	}
	code, err := totp.GenerateCode(string(seed), d.now().Add(offset))
	if err != nil {
		return err.Error()
	}
	return code
}

// moreSteps use the operations on groups, managed policies, devices, certificates, providers, tags and reports.
func moreSteps(t *testing.T, p pair) []step {
	const account = "arn:aws:iam::" + demoAccount
	user, group, role, cert := []string{"bob"}, []string{"g"}, []string{"r"}, []string{"c"}
	doc, inline := []string{allow("s3:*", "*")}, []string{"i"}
	policyARN, serial := []string{account + ":policy/mp"}, []string{account + ":mfa/phone"}
	saml, oidc := []string{account + ":saml-provider/corp"}, []string{account + ":oidc-provider/idp.test"}
	userARN := []string{account + ":user/bob"}
	metadata := []string{samlMetadata(t, "https://idp.test/saml", p)}
	steps := []step{
		{"CreateUser", url.Values{"UserName": user}, "AIDA"},
		{"CreateGroup", url.Values{"GroupName": group}, "<GroupId>AGPA"},
		{"GetGroup", url.Values{"GroupName": group}, "<Users></Users>"},
		{"AddUserToGroup", url.Values{"GroupName": group, "UserName": user}, "Response"},
		{"ListGroupsForUser", url.Values{"UserName": user}, "<GroupName>g</GroupName>"},
		{"ListGroups", url.Values{}, "<GroupName>g</GroupName>"},
		{"UpdateGroup", url.Values{"GroupName": group, "NewPath": {"/x/"}}, "Response"},
		{"PutGroupPolicy", url.Values{"GroupName": group, "PolicyName": inline, "PolicyDocument": doc}, "Response"},
		{"GetGroupPolicy", url.Values{"GroupName": group, "PolicyName": inline}, "<PolicyDocument>%7B"},
		{"ListGroupPolicies", url.Values{"GroupName": group}, "<member>i</member>"},
		{"CreatePolicy", url.Values{"PolicyName": {"mp"}, "PolicyDocument": doc}, "<PolicyId>ANPA"},
		{"GetPolicy", url.Values{"PolicyArn": policyARN}, "<DefaultVersionId>v1"},
		{"CreatePolicyVersion", url.Values{"PolicyArn": policyARN, "PolicyDocument": doc}, "<VersionId>v2"},
		{"GetPolicyVersion", url.Values{"PolicyArn": policyARN, "VersionId": {"v2"}}, "<Document>%7B"},
		{"SetDefaultPolicyVersion", url.Values{"PolicyArn": policyARN, "VersionId": {"v2"}}, "Response"},
		{"ListPolicyVersions", url.Values{"PolicyArn": policyARN}, "<IsDefaultVersion>true</IsDefaultVersion>"},
		{"DeletePolicyVersion", url.Values{"PolicyArn": policyARN, "VersionId": {"v1"}}, "Response"},
		{"ListPolicies", url.Values{"Scope": {"Local"}}, "<PolicyName>mp</PolicyName>"},
		{"CreateRole", url.Values{"RoleName": role, "AssumeRolePolicyDocument": {trustEC2}}, "AROA"},
		{"UpdateRoleDescription", url.Values{"RoleName": role, "Description": {"d"}}, "<Description>d</Description>"},
		{"AttachUserPolicy", url.Values{"UserName": user, "PolicyArn": policyARN}, "Response"},
		{"AttachGroupPolicy", url.Values{"GroupName": group, "PolicyArn": policyARN}, "Response"},
		{"AttachRolePolicy", url.Values{"RoleName": role, "PolicyArn": policyARN}, "Response"},
		{"ListAttachedUserPolicies", url.Values{"UserName": user}, "<PolicyName>mp</PolicyName>"},
		{"ListAttachedGroupPolicies", url.Values{"GroupName": group}, "<PolicyName>mp</PolicyName>"},
		{"ListAttachedRolePolicies", url.Values{"RoleName": role}, "<PolicyName>mp</PolicyName>"},
		{"ListEntitiesForPolicy", url.Values{"PolicyArn": policyARN}, "<RoleName>r</RoleName>"},
		{"PutUserPermissionsBoundary", url.Values{"UserName": user, "PermissionsBoundary": policyARN}, "Response"},
		{"PutRolePermissionsBoundary", url.Values{"RoleName": role, "PermissionsBoundary": policyARN}, "Response"},
		{"SimulatePrincipalPolicy", url.Values{"PolicySourceArn": userARN, "ActionNames.member.1": {"s3:GetObject"}},
			"<EvalDecision>allowed</EvalDecision>"},
		{"SimulateCustomPolicy", url.Values{"PolicyInputList.member.1": doc, "ActionNames.member.1": {"iam:GetUser"}},
			"<EvalDecision>implicitDeny</EvalDecision>"},
		{"GetContextKeysForCustomPolicy", url.Values{"PolicyInputList.member.1": doc}, "ContextKeyNames"},
		{"GetContextKeysForPrincipalPolicy", url.Values{"PolicySourceArn": userARN}, "ContextKeyNames"},
		{"ListPoliciesGrantingServiceAccess", url.Values{"Arn": userARN, "ServiceNamespaces.member.1": {"s3"}},
			"<PolicyName>mp</PolicyName>"},
		{"GenerateServiceLastAccessedDetails", url.Values{"Arn": userARN}, "<JobId>"},
		{"GetServiceLastAccessedDetails", url.Values{"JobId": {"{JobId}"}}, "<ServiceNamespace>s3</ServiceNamespace>"},
		{"GetServiceLastAccessedDetailsWithEntities", url.Values{"JobId": {"{JobId}"}, "ServiceNamespace": {"s3"}},
			"<JobStatus>COMPLETED</JobStatus>"},
		{"GetAccountAuthorizationDetails", url.Values{}, "<UserName>bob</UserName>"},
		{"CreateAccessKey", url.Values{"UserName": user}, "<AccessKeyId>AKIA"},
		{"GetAccessKeyLastUsed", url.Values{"AccessKeyId": {"KEY"}}, "<ServiceName>N/A</ServiceName>"},
		{"DeleteAccessKey", url.Values{"UserName": user, "AccessKeyId": {"KEY"}}, "Response"},
		{"GenerateCredentialReport", url.Values{}, "<State>COMPLETE</State>"},
		{"GetCredentialReport", url.Values{}, "<ReportFormat>text/csv</ReportFormat>"},
		{"CreateAccountAlias", url.Values{"AccountAlias": {"acme"}}, "Response"},
		{"ListAccountAliases", url.Values{}, "<member>acme</member>"},
		{"DeleteAccountAlias", url.Values{"AccountAlias": {"acme"}}, "Response"},
		{"CreateVirtualMFADevice", url.Values{"VirtualMFADeviceName": {"phone"}}, "<Base32StringSeed>"},
		{"EnableMFADevice", url.Values{"UserName": user, "SerialNumber": serial, "AuthenticationCode1": {"{Code1}"},
			"AuthenticationCode2": {"{Code2}"}}, "Response"},
		{"ListMFADevices", url.Values{"UserName": user}, "<UserName>bob</UserName>"},
		{"GetMFADevice", url.Values{"SerialNumber": serial}, "<UserName>bob</UserName>"},
		{"ListVirtualMFADevices", url.Values{"AssignmentStatus": {"Assigned"}}, "<UserName>bob</UserName>"},
		{"ResyncMFADevice", url.Values{"UserName": user, "SerialNumber": serial, "AuthenticationCode1": {"{Code3}"},
			"AuthenticationCode2": {"{Code4}"}}, "Response"},
		{"UploadSigningCertificate", url.Values{"UserName": user, "CertificateBody": {p.cert}}, "<CertificateId>"},
		{"ListSigningCertificates", url.Values{"UserName": user}, "<Status>Active</Status>"},
		{"UpdateSigningCertificate", url.Values{"UserName": user, "CertificateId": {"{CertificateId}"},
			"Status": {"Inactive"}}, "Response"},
		{"DeleteSigningCertificate", url.Values{"UserName": user, "CertificateId": {"{CertificateId}"}}, "Response"},
		{"CreateSAMLProvider", url.Values{"Name": {"corp"}, "SAMLMetadataDocument": metadata}, "saml-provider/corp"},
		{"GetSAMLProvider", url.Values{"SAMLProviderArn": saml}, "EntityDescriptor"},
		{"ListSAMLProviders", url.Values{}, "saml-provider/corp"},
		{"UpdateSAMLProvider", url.Values{"SAMLProviderArn": saml, "SAMLMetadataDocument": metadata}, "corp"},
		{"CreateOpenIDConnectProvider", url.Values{"Url": {"https://idp.test"}, "ClientIDList.member.1": {"app"}},
			"oidc-provider/idp.test"},
		{"GetOpenIDConnectProvider", url.Values{"OpenIDConnectProviderArn": oidc}, "<member>app</member>"},
		{"ListOpenIDConnectProviders", url.Values{}, "oidc-provider/idp.test"},
		{"AddClientIDToOpenIDConnectProvider", url.Values{"OpenIDConnectProviderArn": oidc, "ClientID": {"b"}}, "Response"},
		{"RemoveClientIDFromOpenIDConnectProvider", url.Values{"OpenIDConnectProviderArn": oidc, "ClientID": {"b"}},
			"Response"},
		{"UpdateOpenIDConnectProviderThumbprint", url.Values{"OpenIDConnectProviderArn": oidc,
			"ThumbprintList.member.1": {strings.Repeat("a", 40)}}, "Response"},
		{"CreateServiceLinkedRole", url.Values{"AWSServiceName": {"elasticloadbalancing.amazonaws.com"}},
			"AWSServiceRoleForElasticLoadBalancing"},
		{"DeleteServiceLinkedRole", url.Values{"RoleName": {"AWSServiceRoleForElasticLoadBalancing"}}, "<DeletionTaskId>"},
		{"GetServiceLinkedRoleDeletionStatus", url.Values{"DeletionTaskId": {"{DeletionTaskId}"}}, "SUCCEEDED"},
		{"CreateInstanceProfile", url.Values{"InstanceProfileName": {"ip"}}, "AIPA"},
		{"UploadServerCertificate", url.Values{"ServerCertificateName": cert, "CertificateBody": {p.cert},
			"PrivateKey": {p.key}}, "ASCA"},
	}
	for _, k := range []struct {
		of, field string
		ref       []string
	}{
		{"User", "UserName", user}, {"Role", "RoleName", role}, {"Policy", "PolicyArn", policyARN},
		{"InstanceProfile", "InstanceProfileName", []string{"ip"}}, {"ServerCertificate", "ServerCertificateName", cert},
		{"MFADevice", "SerialNumber", serial}, {"SAMLProvider", "SAMLProviderArn", saml},
		{"OpenIDConnectProvider", "OpenIDConnectProviderArn", oidc},
	} {
		steps = append(steps,
			step{"Tag" + k.of, url.Values{k.field: k.ref, "Tags.member.1.Key": {"Team"}, "Tags.member.1.Value": {"x"}},
				"Response"},
			step{"List" + k.of + "Tags", url.Values{k.field: k.ref}, "<Key>Team</Key>"},
			step{"Untag" + k.of, url.Values{k.field: k.ref, "TagKeys.member.1": {"team"}}, "Response"},
			step{"List" + k.of + "Tags", url.Values{k.field: k.ref}, "<Tags></Tags>"})
	}
	return append(steps, []step{
		{"DeleteServerCertificate", url.Values{"ServerCertificateName": cert}, "Response"},
		{"DeleteInstanceProfile", url.Values{"InstanceProfileName": {"ip"}}, "Response"},
		{"DeleteOpenIDConnectProvider", url.Values{"OpenIDConnectProviderArn": oidc}, "Response"},
		{"DeleteSAMLProvider", url.Values{"SAMLProviderArn": saml}, "Response"},
		{"DeactivateMFADevice", url.Values{"UserName": user, "SerialNumber": serial}, "Response"},
		{"DeleteVirtualMFADevice", url.Values{"SerialNumber": serial}, "Response"},
		{"DeleteRolePermissionsBoundary", url.Values{"RoleName": role}, "Response"},
		{"DeleteUserPermissionsBoundary", url.Values{"UserName": user}, "Response"},
		{"DetachRolePolicy", url.Values{"RoleName": role, "PolicyArn": policyARN}, "Response"},
		{"DetachGroupPolicy", url.Values{"GroupName": group, "PolicyArn": policyARN}, "Response"},
		{"DetachUserPolicy", url.Values{"UserName": user, "PolicyArn": policyARN}, "Response"},
		{"DeletePolicy", url.Values{"PolicyArn": policyARN}, "Response"},
		{"DeleteGroupPolicy", url.Values{"GroupName": group, "PolicyName": inline}, "Response"},
		{"RemoveUserFromGroup", url.Values{"GroupName": group, "UserName": user}, "Response"},
		{"DeleteGroup", url.Values{"GroupName": group}, "Response"},
		{"DeleteRole", url.Values{"RoleName": role}, "Response"},
		{"DeleteUser", url.Values{"UserName": user}, "Response"},
	}...)
}

// samlMetadata is an identity provider's document, of at least the length that AWS wants.
func samlMetadata(t testing.TB, entityID string, p pair) string {
	t.Helper()
	return `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="` + entityID + `">` +
		`<IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"><KeyDescriptor use="signing">` +
		`<KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><X509Data><X509Certificate>` +
		base64.StdEncoding.EncodeToString(p.leaf.Raw) + `</X509Certificate></X509Data></KeyInfo></KeyDescriptor>` +
		`<SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="https://idp.test/sso"/>` +
		`</IDPSSODescriptor></EntityDescriptor>` + strings.Repeat("\n", 1000)
}
