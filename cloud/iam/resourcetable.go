package iam

import (
	"context"
	"reflect"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// subject says which parameter of an operation names what it touches.
type subject struct {
	kind  string // of the entity that field names; empty when field holds an ARN
	field string
	// list marks operations on all entities below the path in field, made operations that make an entity at Path.
	list, made bool
	// optional marks a user's name that may be left out, which means the caller.
	optional bool
}

// subjects are those of operations that are alike: most of the newer ones.
func subjects() map[string]subject {
	all := map[string]subject{
		"CreateGroup": {kind: kindGroup, field: "GroupName", made: true},
		"ListGroups":  {kind: kindGroup, field: "PathPrefix", list: true},

		"CreatePolicy": {kind: kindPolicy, field: "PolicyName", made: true},
		"ListPolicies": {kind: kindPolicy, field: "PathPrefix", list: true},

		"CreateVirtualMFADevice": {kind: kindMFA, field: "VirtualMFADeviceName", made: true},
		"ListVirtualMFADevices":  {kind: kindMFA, list: true},
		"ListMFADevices":         {kind: kindUser, field: "UserName", optional: true},
		"GetMFADevice":           {field: "SerialNumber"},

		"CreateSAMLProvider":               {kind: kindSAML, field: "Name", made: true},
		"ListSAMLProviders":                {kind: kindSAML, list: true},
		"ListOpenIDConnectProviders":       {kind: kindOIDC, list: true},
		"GetContextKeysForPrincipalPolicy": {field: "PolicySourceArn"},
		"SimulatePrincipalPolicy":          {field: "PolicySourceArn"},
		"ListEntitiesForPolicy":            {field: "PolicyArn"},
		"GetAccessKeyLastUsed":             {kind: kindUser, list: true},
		"GetServiceLastAccessedDetails":    {list: true, kind: "*"},
	}
	add := func(s subject, operations string) {
		for _, op := range strings.Fields(operations) {
			all[op] = s
		}
	}
	add(subject{kind: kindGroup, field: "GroupName"}, "GetGroup UpdateGroup DeleteGroup AddUserToGroup "+
		"RemoveUserFromGroup PutGroupPolicy GetGroupPolicy ListGroupPolicies DeleteGroupPolicy AttachGroupPolicy "+
		"DetachGroupPolicy ListAttachedGroupPolicies")
	add(subject{kind: kindUser, field: "UserName"}, "ListGroupsForUser AttachUserPolicy DetachUserPolicy "+
		"ListAttachedUserPolicies PutUserPermissionsBoundary DeleteUserPermissionsBoundary TagUser UntagUser "+
		"ListUserTags EnableMFADevice ResyncMFADevice DeactivateMFADevice DeleteLoginProfile")
	add(subject{kind: kindUser, field: "UserName", optional: true}, "UploadSigningCertificate ListSigningCertificates "+
		"UpdateSigningCertificate DeleteSigningCertificate GetLoginProfile ListSSHPublicKeys "+
		"ListServiceSpecificCredentials")
	add(subject{kind: kindRole, field: "RoleName"}, "AttachRolePolicy DetachRolePolicy ListAttachedRolePolicies "+
		"PutRolePermissionsBoundary DeleteRolePermissionsBoundary TagRole UntagRole ListRoleTags UpdateRoleDescription "+
		"DeleteServiceLinkedRole")
	add(subject{kind: kindProfile, field: "InstanceProfileName"},
		"TagInstanceProfile UntagInstanceProfile ListInstanceProfileTags")
	add(subject{kind: kindCertificate, field: "ServerCertificateName"},
		"TagServerCertificate UntagServerCertificate ListServerCertificateTags")
	add(subject{field: "PolicyArn"}, "GetPolicy DeletePolicy CreatePolicyVersion GetPolicyVersion ListPolicyVersions "+
		"DeletePolicyVersion SetDefaultPolicyVersion TagPolicy UntagPolicy ListPolicyTags")
	add(subject{field: "SerialNumber"}, "DeleteVirtualMFADevice TagMFADevice UntagMFADevice ListMFADeviceTags")
	add(subject{field: "SAMLProviderArn"}, "GetSAMLProvider UpdateSAMLProvider DeleteSAMLProvider TagSAMLProvider "+
		"UntagSAMLProvider ListSAMLProviderTags")
	add(subject{field: "OpenIDConnectProviderArn"}, "GetOpenIDConnectProvider DeleteOpenIDConnectProvider "+
		"UpdateOpenIDConnectProviderThumbprint AddClientIDToOpenIDConnectProvider "+
		"RemoveClientIDFromOpenIDConnectProvider TagOpenIDConnectProvider UntagOpenIDConnectProvider "+
		"ListOpenIDConnectProviderTags")
	add(subject{field: "Arn"}, "GenerateServiceLastAccessedDetails ListPoliciesGrantingServiceAccess")
	return all
}

func tableResolvers(all map[string]resolver) {
	for op, s := range subjects() {
		all[op] = s.resolve
	}
	all["CreateOpenIDConnectProvider"] = on(func(_ context.Context, _ *Service, c authn.Caller,
		in *iammodel.CreateOpenIDConnectProviderInput,
	) ([]string, error) {
		// A URL that is none is the handler's to refuse.
		name := strings.TrimSuffix(strings.TrimPrefix(model.Val(in.Url), "https://"), "/")
		return []string{entityARN(c.AccountID, kindOIDC, "/", name)}, nil
	})
	all["CreateServiceLinkedRole"] = on(func(_ context.Context, _ *Service, c authn.Caller,
		in *iammodel.CreateServiceLinkedRoleInput,
	) ([]string, error) {
		service := model.Val(in.AWSServiceName)
		return []string{entityARN(c.AccountID, kindRole, "/aws-service-role/"+service+"/",
			linkedServices()[service].role)}, nil
	})
	all["GetServiceLinkedRoleDeletionStatus"] = on(func(_ context.Context, _ *Service, c authn.Caller,
		_ *iammodel.GetServiceLinkedRoleDeletionStatusInput,
	) ([]string, error) {
		return []string{entityARN(c.AccountID, kindRole, "/", "*")}, nil
	})
}

// resolve is the subject's resolver.
func (s subject) resolve(ctx context.Context, svc *Service, c authn.Caller, input any) ([]string, error) {
	in := reflect.ValueOf(input).Elem()
	value := textOf(in, s.field)
	switch {
	case s.list && s.kind == "*":
		return []string{"*"}, nil
	case s.list:
		return []string{entityARN(c.AccountID, s.kind, value, "")}, nil
	case s.made:
		return []string{entityARN(c.AccountID, s.kind, textOf(in, "Path"), value)}, nil
	case s.kind == "":
		if value == "" {
			value = "*"
		}
		return []string{value}, nil
	case s.optional && value == "" && c.Kind == authn.KindUser:
		return []string{c.ARN}, nil
	}
	arn, err := svc.arnOf(ctx, s.kind, c.AccountID, value)
	return []string{arn}, err
}

// textOf returns a text member of an input; empty when it is absent or there is none of that name.
func textOf(in reflect.Value, field string) string {
	if f := in.FieldByName(field); f.IsValid() {
		if p, ok := f.Interface().(*string); ok {
			return model.Val(p)
		}
	}
	return ""
}

// Conditions names the condition keys that an operation's own parameters answer, for the front door's authorisation.
func (s *Service) Conditions(_ context.Context, operation string, _ authn.Caller, input any) (
	map[string][]string, error,
) {
	keys := make(map[string][]string)
	in := reflect.ValueOf(input).Elem()
	if tags, ok := memberOf[[]iammodel.Tag](in, "Tags"); ok {
		for _, t := range tags {
			keys["aws:RequestTag/"+model.Val(t.Key)] = []string{model.Val(t.Value)}
			keys["aws:TagKeys"] = append(keys["aws:TagKeys"], model.Val(t.Key))
		}
	}
	if names, ok := memberOf[[]string](in, "TagKeys"); ok {
		keys["aws:TagKeys"] = names
	}
	if strings.HasPrefix(operation, "Attach") || strings.HasPrefix(operation, "Detach") {
		keys["iam:PolicyARN"] = []string{textOf(in, "PolicyArn")}
	}
	for field, key := range map[string]string{
		"PermissionsBoundary": "iam:PermissionsBoundary", "AWSServiceName": "iam:AWSServiceName",
	} {
		if v := textOf(in, field); v != "" {
			keys[key] = []string{v}
		}
	}
	return keys, nil
}

func memberOf[T any](in reflect.Value, field string) (v T, ok bool) {
	if f := in.FieldByName(field); f.IsValid() {
		v, ok = f.Interface().(T)
	}
	return v, ok
}
