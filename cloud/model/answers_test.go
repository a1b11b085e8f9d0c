package model_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/xml"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

// TestAnswersAreTheirTags holds what generated code writes against what the types' tags say, for outputs with all sorts
// of members there and not there.
func TestAnswersAreTheirTags(t *testing.T) {
	const turns = 40
	tests := []struct {
		name    string
		service model.Service
		outputs []any
	}{
		{"iam", iammodel.Service(), []any{
			new(iammodel.GetAccountAuthorizationDetailsOutput), new(iammodel.GetAccountSummaryOutput),
			new(iammodel.GetContextKeysForPrincipalPolicyOutput), new(iammodel.GetCredentialReportOutput),
			new(iammodel.GetServiceLastAccessedDetailsOutput), new(iammodel.GetServerCertificateOutput),
			new(iammodel.ListRolesOutput), new(iammodel.ListVirtualMFADevicesOutput), new(iammodel.DeleteUserOutput),
			new(iammodel.SimulatePrincipalPolicyOutput), new(iammodel.SimulateCustomPolicyOutput),
		}},
		{"sts", stsmodel.Service(), []any{new(stsmodel.AssumeRoleOutput), new(stsmodel.GetCallerIdentityOutput)}},
		{"elb", elbmodel.Service(), []any{
			new(elbmodel.DescribeLoadBalancersOutput), new(elbmodel.DescribeLoadBalancerAttributesOutput),
			new(elbmodel.DescribeInstanceHealthOutput),
		}},
		{"ec2", ec2model.Service(), []any{
			new(ec2model.DescribeInstancesOutput), new(ec2model.RunInstancesOutput), new(ec2model.DescribeImagesOutput),
			new(ec2model.DescribeInstanceTypesOutput), new(ec2model.DescribeInstanceStatusOutput),
			new(ec2model.DescribeKeyPairsOutput), new(ec2model.CreateTagsOutput),
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := model.NewHandlers(tt.service, []model.Operation{{Name: "Do", ResultWrapper: "DoResult",
				Bind: func(any) (model.Call, bool) {
					return func(context.Context, any) (any, error) { return struct{}{}, nil }, true
				}}}, struct{}{})["Do"]
			for _, output := range tt.outputs {
				random := rand.New(rand.NewPCG(1, 2))
				for range turns {
					v := reflect.ValueOf(output).Elem()
					fill(random, v, 0)
					got, err := h.Encode(output, "", "id")
					if err != nil {
						t.Fatal(err)
					}
					if d := gocmp.Diff(tagged(tt.service, v), string(got)); d != "" {
						t.Fatalf("%T:\n%s", output, d)
					}
				}
			}
		})
	}
}

// fill gives members values, and some none.
func fill(random *rand.Rand, v reflect.Value, depth int) {
	const deepest = 6
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(random.Int64N(1<<33), random.Int64N(1e9))))
			return
		}
		for i := range v.NumField() {
			v.Field(i).SetZero()
			if depth < deepest && random.IntN(4) > 0 {
				fill(random, v.Field(i), depth+1)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(random, v.Elem(), depth)
	case reflect.Slice:
		n := random.IntN(3)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(random, v.Index(i), depth)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, key := range texts()[:random.IntN(len(texts())-1)] {
			value := reflect.New(v.Type().Elem()).Elem()
			fill(random, value, depth)
			v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), value)
		}
	default:
		fillScalar(random, v)
	}
}

func texts() []string {
	return []string{"", "a", "two words", `<&"'>`, "\x00\té", "i-0123456789abcdef0"}
}

func fillScalar(random *rand.Rand, v reflect.Value) {
	switch v.Kind() { //nolint:exhaustive // what generated types have
	case reflect.String:
		v.SetString(texts()[random.IntN(len(texts()))])
	case reflect.Int64:
		v.SetInt(random.Int64() - random.Int64())
	case reflect.Float64:
		v.SetFloat(random.NormFloat64())
	case reflect.Bool:
		v.SetBool(random.IntN(2) == 0)
	case reflect.Uint8:
		v.SetUint(uint64(random.IntN(256)))
	}
}

// tagged writes an answer of the operation Do as the tags of its type say.
func tagged(s model.Service, v reflect.Value) string {
	w := &tagWriter{entry: "member"}
	if s.Protocol == model.ProtocolEC2 {
		w.entry = "item"
		w.WriteString(xml.Header + `<DoResponse xmlns="http://ec2.amazonaws.com/doc/` + s.Version + `/">` +
			"<requestId>id</requestId>")
		w.fields(v, true)
		w.WriteString("</DoResponse>")
		return w.String()
	}
	w.WriteString(`<DoResponse xmlns="` + s.Namespace + `"><DoResult>`)
	w.fields(v, true)
	w.WriteString("</DoResult><ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></DoResponse>")
	return w.String()
}

type tagWriter struct {
	bytes.Buffer
	entry string
}

func (w *tagWriter) element(name string, inside func()) {
	w.WriteString("<" + name + ">")
	inside()
	w.WriteString("</" + name + ">")
}

func (w *tagWriter) fields(v reflect.Value, top bool) {
	for i := range v.NumField() {
		f, member := v.Type().Field(i), v.Field(i)
		name := cmp.Or(f.Tag.Get("xml"), f.Name)
		list := f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() != reflect.Uint8
		switch {
		case member.IsZero() && (!list || !top && w.entry == "item"):
		default:
			w.element(name, func() { w.value(member) })
		}
	}
}

func (w *tagWriter) value(v reflect.Value) {
	switch held := v.Interface().(type) {
	case time.Time:
		w.WriteString(held.UTC().Format(model.TimeFormat))
		return
	case []byte:
		w.WriteString(base64.StdEncoding.EncodeToString(held))
		return
	}
	switch v.Kind() { //nolint:exhaustive // what generated types have
	case reflect.Pointer:
		w.value(v.Elem())
	case reflect.Struct:
		w.fields(v, false)
	case reflect.Slice:
		for i := range v.Len() {
			w.element(w.entry, func() { w.value(v.Index(i)) })
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, key := range keys {
			w.element("entry", func() {
				w.element("key", func() { w.value(key) })
				w.element("value", func() { w.value(v.MapIndex(key)) })
			})
		}
	case reflect.String:
		_ = xml.EscapeText(w, []byte(v.String())) // a bytes.Buffer does not fail
	case reflect.Int64:
		w.WriteString(strconv.FormatInt(v.Int(), 10))
	case reflect.Float64:
		w.WriteString(strconv.FormatFloat(v.Float(), 'f', -1, 64))
	case reflect.Bool:
		w.WriteString(strconv.FormatBool(v.Bool()))
	}
}
