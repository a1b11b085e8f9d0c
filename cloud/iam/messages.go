package iam

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

// purposeMessage is what an encoded authorization message is sealed for.
const purposeMessage = "authorization-message"

const (
	// maxMessage bounds an encoded authorization message, in bytes: DecodeAuthorizationMessage takes no longer one.
	maxMessage = 10_240
	// maxDecoded bounds what one opens to.
	maxDecoded = 256 << 10
	// maxItems is how many statements, conditions and failures of each kind one tells of.
	maxItems = 16
	// maxShown is how much of a value one repeats, in bytes.
	maxShown = 256
)

// ErrMessage means that a text is no encoded authorization message of the account.
var ErrMessage = errors.New("not an encoded authorization message of this account")

// sealedMessage is what an encoded message holds.
type sealedMessage struct {
	AccountID string          `json:"a"`
	Message   json.RawMessage `json:"m"`
}

type items[T any] struct {
	Items []T `json:"items"`
}

// authorizationMessage has the form in which AWS's DecodeAuthorizationMessage tells of a denial.
type authorizationMessage struct {
	Allowed           bool                    `json:"allowed"`
	ExplicitDeny      bool                    `json:"explicitDeny"`
	MatchedStatements items[matchedStatement] `json:"matchedStatements"`
	Failures          items[failure]          `json:"failures"`
	Context           messageContext          `json:"context"`
}

type matchedStatement struct {
	StatementID string `json:"statementId"`
	Effect      string `json:"effect"`
	Policy      string `json:"policy"`
	Stage       string `json:"policyType"`
}

// failure is a condition that kept a statement from applying: its key, what it wants and what the request has.
type failure struct {
	Policy    string   `json:"policy"`
	Statement int      `json:"statement"`
	Operator  string   `json:"operator"`
	Key       string   `json:"key"`
	Want      []string `json:"want"`
	Have      []string `json:"have"`
}

type messageContext struct {
	Principal  messagePrincipal        `json:"principal"`
	Action     string                  `json:"action"`
	Resource   string                  `json:"resource"`
	Conditions items[messageCondition] `json:"conditions"`
}

type messagePrincipal struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	ARN  string `json:"arn"`
}

type messageCondition struct {
	Key    string            `json:"key"`
	Values items[valueField] `json:"values"`
}

type valueField struct {
	Value string `json:"value"`
}

// encodeMessage seals what was decided and why, for those whom the account lets decode it.
func (s *Service) encodeMessage(c *authn.Caller, e *policy.Explanation) (string, error) {
	name := c.UserName
	if name == "" {
		name = c.RoleName
	}
	m := authorizationMessage{
		ExplicitDeny:      e.Decision.Verdict == policy.ExplicitDeny,
		MatchedStatements: items[matchedStatement]{Items: []matchedStatement{}},
		Failures:          items[failure]{Items: []failure{}},
		Context: messageContext{
			Principal: messagePrincipal{ID: c.UserID, Name: name, ARN: c.ARN}, Action: e.Action, Resource: e.Resource,
			Conditions: items[messageCondition]{Items: []messageCondition{}},
		},
	}
	for _, p := range e.Policies {
		for i := range p.Statements {
			m.add(&p, &p.Statements[i])
		}
	}
	for {
		encoded, err := s.sealMessage(c.AccountID, &m)
		if err != nil || len(encoded) <= maxMessage {
			return encoded, err
		}
		// What a denial has to say first is who, what and on what; the rest gives way.
		m.Failures.Items = m.Failures.Items[:len(m.Failures.Items)/2]
		m.Context.Conditions.Items = m.Context.Conditions.Items[:len(m.Context.Conditions.Items)/2]
		m.MatchedStatements.Items = m.MatchedStatements.Items[:len(m.MatchedStatements.Items)/2]
		m.Context.Resource = shown(m.Context.Resource)
	}
}

func (s *Service) sealMessage(accountID string, m *authorizationMessage) (string, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	if text, err = json.Marshal(sealedMessage{AccountID: accountID, Message: text}); err != nil {
		return "", err
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		return "", err
	}
	_, err = w.Write(text)
	if err := errors.Join(err, w.Close()); err != nil {
		return "", err
	}
	return s.keys.tokens.seal(purposeMessage, b.Bytes())
}

// shown bounds a value that a message repeats.
func shown(text string) string {
	if len(text) > maxShown {
		return strings.ToValidUTF8(text[:maxShown], "")
	}
	return text
}

func allShown(values []string) []string {
	out := []string{}
	for i, v := range values {
		if i == maxItems {
			break
		}
		out = append(out, shown(v))
	}
	return out
}

func (m *authorizationMessage) add(p *policy.PolicyTrace, st *policy.StatementTrace) {
	if st.Applies && len(m.MatchedStatements.Items) < maxItems {
		m.MatchedStatements.Items = append(m.MatchedStatements.Items, matchedStatement{
			StatementID: st.Sid, Effect: strings.ToUpper(st.Effect), Policy: p.Policy, Stage: p.Stage,
		})
	}
	for _, c := range st.Conditions {
		known := slices.ContainsFunc(m.Context.Conditions.Items, func(o messageCondition) bool {
			return strings.EqualFold(o.Key, c.Key)
		})
		if c.Present && !known && len(m.Context.Conditions.Items) < maxItems {
			mc := messageCondition{Key: c.Key}
			for _, v := range allShown(c.Have) {
				mc.Values.Items = append(mc.Values.Items, valueField{Value: v})
			}
			m.Context.Conditions.Items = append(m.Context.Conditions.Items, mc)
		}
		if !c.Met && st.Action && st.Resource && len(m.Failures.Items) < maxItems {
			m.Failures.Items = append(m.Failures.Items, failure{
				Policy: p.Policy, Statement: st.Index, Operator: c.Operator, Key: c.Key, Want: allShown(c.Want),
				Have: allShown(c.Have),
			})
		}
	}
}

// DecodeMessage opens an encoded authorization message of an account's principal. ErrMessage says that it is none, was
// altered, or is another account's. Whether the caller may is sts's to check.
func (s *Service) DecodeMessage(_ context.Context, accountID, encoded string) (string, error) {
	if len(encoded) > maxMessage {
		return "", ErrMessage
	}
	packed, err := s.keys.tokens.open(purposeMessage, encoded)
	if err != nil {
		return "", ErrMessage
	}
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxDecoded))
	if err != nil {
		return "", ErrMessage
	}
	var m sealedMessage
	if err := json.Unmarshal(text, &m); err != nil || m.AccountID != accountID {
		return "", ErrMessage
	}
	return string(m.Message), nil
}
