package iam

import (
	"context"
	"sort"
	"strings"
	"sync"
	"time"

	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

// awsPolicyPrefix is how the ARNs of AWS's own managed policies begin. They belong to no account.
const awsPolicyPrefix = "arn:aws:iam::aws:policy/"

// awsPoliciesByARN compiles the table once. That a text does not parse is a mistake in the program.
var awsPoliciesByARN = sync.OnceValue(func() map[string]*managed {
	created := time.Date(2015, 2, 6, 18, 0, 0, 0, time.UTC)
	out := make(map[string]*managed)
	for full, text := range awsPolicyTexts() {
		doc, err := policy.Parse(text, policy.Identity)
		if err != nil {
			panic("iam: AWS managed policy " + full + ": " + err.Error())
		}
		slash := strings.LastIndexByte(full, '/')
		name := full[slash+1:]
		p := &managed{
			managedRecord: managedRecord{
				AccountID: "aws", Name: name, Path: full[:slash+1], ID: stableID("ANPA", full), Created: created,
				Updated: created, Default: 1, Next: 2,
				Versions: []policyVersion{{Number: 1, Document: text, Created: created}},
			},
			fullARN: "arn:aws:iam::aws:policy" + full,
			source: policy.Source{
				Name: "AWS managed policy " + name, Document: doc, ID: name, Type: iammodel.PolicySourceTypeAwsManaged,
			},
		}
		out[p.fullARN] = p
	}
	return out
})

func awsPolicy(arn string) (*managed, bool) {
	if !strings.HasPrefix(arn, awsPolicyPrefix) {
		return nil, false
	}
	p, ok := awsPoliciesByARN()[arn]
	return p, ok
}

// awsRecords are they in the order of their names, with their keys: the names in lower case, and the paths, since a
// name may be there twice.
var awsRecords = sync.OnceValues(func() (recs []managedRecord, keys []string) {
	for _, p := range awsPoliciesByARN() {
		recs = append(recs, p.managedRecord)
	}
	recs = sortedBy(recs, awsKey)
	for i := range recs {
		keys = append(keys, awsKey(recs[i]))
	}
	return recs, keys
})

func awsKey(r managedRecord) string { return strings.ToLower(r.Name) + r.Path }

// awsTable shows them as a table shows its records.
type awsTable struct{}

var _ pager[managedRecord] = awsTable{}

// Page is store.Table.Page.
func (awsTable) Page(_ context.Context, prefix, after string, limit int) ([]managedRecord, []string, bool, error) {
	recs, names := awsRecords()
	from := sort.Search(len(names), func(i int) bool { return prefix+names[i] > after })
	recs, names = recs[from:], names[from:]
	more := len(recs) > limit
	if more {
		recs, names = recs[:limit], names[:limit]
	}
	keys := make([]string, len(names))
	for i := range names {
		keys[i] = prefix + names[i]
	}
	return recs, keys, more, nil
}
