package iam

import (
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// Account is one account of the cloud.
type Account struct {
	ID      string // twelve digits
	Name    string
	System  bool // belongs to the cloud's own services
	Created time.Time
	// LinkedTo is the account on whose behalf a service made this one; empty for all others.
	LinkedTo string `json:",omitempty"`
}

// accountRecord is an Account as stored, with the ids of its root user's access keys.
type accountRecord struct {
	Account
	RootKeys []string `json:",omitempty"`
	Alias    string   `json:",omitempty"`
	// SigningCerts are the ids of the root user's.
	SigningCerts []string `json:",omitempty"`
}

type tag struct{ Key, Value string }

// inlinePolicy is a policy that lives inside a user or role. The names in one entity are unique and sorted.
type inlinePolicy struct{ Name, Document string }

// holder is what entities with permissions have in common.
type holder struct {
	Policies []inlinePolicy `json:",omitempty"`
	Attached []string       `json:",omitempty"` // ARNs of managed policies, sorted
	Boundary string         `json:",omitempty"` // ARN of the managed policy that is the permissions boundary
}

type userRecord struct {
	AccountID string
	Name      string
	Path      string
	ID        string // AIDA…
	Created   time.Time
	holder
	AccessKeys   []string `json:",omitempty"`
	Groups       []string `json:",omitempty"` // ids of groups, AGPA…
	MFADevices   []string `json:",omitempty"` // serial numbers
	SigningCerts []string `json:",omitempty"` // ids
	Tags         []tag    `json:",omitempty"`
}

type groupRecord struct {
	AccountID string
	Name      string
	Path      string
	ID        string // AGPA…
	Created   time.Time
	holder
	Members int `json:",omitempty"` // how many records of members it has
}

// memberRecord lies under account, group's id and user's name in lower case.
type memberRecord struct{ UserName string }

// groupIDRecord finds a group by its id, under account and id.
type groupIDRecord struct{ Name string }

type roleRecord struct {
	AccountID   string
	Name        string
	Path        string
	ID          string // AROA…
	Created     time.Time
	Description string `json:",omitempty"`
	Trust       string // policy document
	MaxSession  int64  // seconds
	holder
	InstanceProfiles []string `json:",omitempty"` // names of the profiles that hold the role
	Tags             []tag    `json:",omitempty"`
	Service          bool     `json:",omitempty"` // made by EnsureServiceRole
	LinkedTo         string   `json:",omitempty"` // the service of a service-linked role
}

type profileRecord struct {
	AccountID string
	Name      string
	Path      string
	ID        string // AIPA…
	Created   time.Time
	RoleName  string `json:",omitempty"` // at most one role
	Tags      []tag  `json:",omitempty"`
	Service   bool   `json:",omitempty"`
}

type accessKeyRecord struct {
	ID        string // AKIA…
	AccountID string
	UserName  string `json:",omitempty"` // empty for the root user
	Active    bool
	Created   time.Time
	Secret    string // sealed with the root key
}

type certificateRecord struct {
	AccountID string
	Name      string
	Path      string
	ID        string // ASCA…
	Uploaded  time.Time
	Expires   time.Time
	Body      string // PEM
	Chain     string `json:",omitempty"` // PEM
	Key       string // USERPK sealed to IAMCERT
	SealedTo  string `json:",omitempty"` // IAMCERT's serial in hex; empty in records from before there were several
	Tags      []tag  `json:",omitempty"`
}

// recordKey is where an entity lies in its table. AWS names are unique without regard to case, so the key is in
// lower case; get compares the name itself, so that ALICE does not reach alice.
func recordKey(accountID, name string) string { return accountID + "/" + strings.ToLower(name) }

func (r *groupRecord) arn() string   { return entityARN(r.AccountID, kindGroup, r.Path, r.Name) }
func (r *userRecord) arn() string    { return entityARN(r.AccountID, kindUser, r.Path, r.Name) }
func (r *roleRecord) arn() string    { return entityARN(r.AccountID, kindRole, r.Path, r.Name) }
func (r *profileRecord) arn() string { return entityARN(r.AccountID, kindProfile, r.Path, r.Name) }
func (r *certificateRecord) arn() string {
	return entityARN(r.AccountID, kindCertificate, r.Path, r.Name)
}

// revision changes whenever other bytes stand behind the certificate's name: every upload has an id of its own.
func (r *certificateRecord) revision() string { return r.ID }

func (r *certificateRecord) sealPurpose() string {
	return "server-certificate/" + r.AccountID + "/" + r.ID
}

func (r *certificateRecord) metadata() *iammodel.ServerCertificateMetadata {
	return &iammodel.ServerCertificateMetadata{
		Arn: model.Ptr(r.arn()), Path: model.Ptr(r.Path), ServerCertificateName: model.Ptr(r.Name),
		ServerCertificateId: model.Ptr(r.ID), UploadDate: model.Ptr(r.Uploaded), Expiration: model.Ptr(r.Expires),
	}
}

func (r *userRecord) view() *iammodel.User {
	return &iammodel.User{
		Arn: model.Ptr(r.arn()), Path: model.Ptr(r.Path), UserName: model.Ptr(r.Name), UserId: model.Ptr(r.ID),
		CreateDate: model.Ptr(r.Created), Tags: viewTags(r.Tags), PermissionsBoundary: r.boundaryView(),
	}
}

func (h *holder) boundaryView() *iammodel.AttachedPermissionsBoundary {
	if h.Boundary == "" {
		return nil
	}
	return &iammodel.AttachedPermissionsBoundary{
		PermissionsBoundaryArn:  model.Ptr(h.Boundary),
		PermissionsBoundaryType: model.Ptr(iammodel.PermissionsBoundaryAttachmentTypePermissionsBoundaryPolicy),
	}
}

func (r *groupRecord) view() *iammodel.Group {
	return &iammodel.Group{
		Arn: model.Ptr(r.arn()), Path: model.Ptr(r.Path), GroupName: model.Ptr(r.Name), GroupId: model.Ptr(r.ID),
		CreateDate: model.Ptr(r.Created),
	}
}

func (r *roleRecord) view() *iammodel.Role {
	v := &iammodel.Role{
		Arn: model.Ptr(r.arn()), Path: model.Ptr(r.Path), RoleName: model.Ptr(r.Name), RoleId: model.Ptr(r.ID),
		CreateDate: model.Ptr(r.Created), AssumeRolePolicyDocument: model.Ptr(escapeDocument(r.Trust)),
		MaxSessionDuration: model.Ptr(r.MaxSession), Tags: viewTags(r.Tags), PermissionsBoundary: r.boundaryView(),
	}
	if r.Description != "" {
		v.Description = model.Ptr(r.Description)
	}
	return v
}

// view needs the profile's role, which is another record; nil when the profile is empty.
func (r *profileRecord) view(role *roleRecord) *iammodel.InstanceProfile {
	v := &iammodel.InstanceProfile{
		Arn: model.Ptr(r.arn()), Path: model.Ptr(r.Path), InstanceProfileName: model.Ptr(r.Name),
		InstanceProfileId: model.Ptr(r.ID), CreateDate: model.Ptr(r.Created), Tags: viewTags(r.Tags),
		Roles: []iammodel.Role{},
	}
	if role != nil {
		v.Roles = append(v.Roles, *role.view())
	}
	return v
}

func viewTags(tags []tag) []iammodel.Tag {
	var out []iammodel.Tag
	for _, t := range tags {
		out = append(out, iammodel.Tag{Key: model.Ptr(t.Key), Value: model.Ptr(t.Value)})
	}
	return out
}

// readTags takes over the tags of a create call. Keys are unique without regard to case.
func readTags(in []iammodel.Tag) ([]tag, error) {
	var out []tag
	seen := make(map[string]bool)
	for _, t := range in {
		key := model.Val(t.Key)
		if seen[strings.ToLower(key)] {
			return nil, iammodel.ErrInvalidInput("Duplicate tag keys found: %s. Tag keys are case-insensitive.", key)
		}
		seen[strings.ToLower(key)] = true
		out = append(out, tag{Key: key, Value: model.Val(t.Value)})
	}
	return out, nil
}
