package replay

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/model"
)

// unplayableError means that a recording does not tell enough of a step to do it again.
type unplayableError struct{ reason string }

func (e *unplayableError) Error() string { return e.reason }

func unplayable(format string, args ...any) error {
	return &unplayableError{reason: fmt.Sprintf(format, args...)}
}

func asUnplayable(err error) (reason string, ok bool) {
	u, ok := errors.AsType[*unplayableError](err)
	if !ok {
		return "", false
	}
	return u.reason, true
}

// substitutes are the new cloud's for what the recorded one made up, and for secrets that were not recorded.
type substitutes struct {
	ids       map[string]string // new identifiers by recorded ones
	passwords map[string]int    // of users: how many there were
	ports     map[string]string // that instances served on, by their recorded ids
	recorded  time.Time         // when the recording began
	now       time.Time         // when the replay does
}

// made is every form of identifier that an answer gives.
var made = regexp.MustCompile(`\b(?:` + resources + `|` + uniques + `|127\.\d+\.\d+\.\d+)\b`)

// learn notes what has taken the place of what.
func (s *substitutes) learn(recorded, replayed []string) {
	for i := range min(len(recorded), len(replayed)) {
		s.ids[recorded[i]] = replayed[i]
	}
}

// text gives a text the new cloud's identifiers.
func (s *substitutes) text(text string) string {
	return made.ReplaceAllStringFunc(text, func(id string) string {
		if replaced, ok := s.ids[id]; ok {
			return replaced
		}
		return id
	})
}

// form returns a call's parameters for the new cloud. The error is unplayable when one of them cannot be known.
func (s *substitutes) form(call *Call) (url.Values, error) {
	if call.Cut {
		return nil, unplayable("its longest parameters were too long to be recorded")
	}
	form := url.Values{}
	for name, values := range call.Parameters {
		form.Set(name, s.text(values[0]))
	}
	// An OldPassword comes before the NewPassword that takes its place.
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(call.Parameters))) {
		if call.Parameters.Get(name) != model.Secret {
			continue
		}
		if err := s.secret(call, name, form); err != nil {
			return nil, err
		}
	}
	return form, nil
}

// secret puts something in the place of a parameter that was not recorded.
func (s *substitutes) secret(call *Call, name string, form url.Values) error {
	_, operation, _ := strings.Cut(call.Action, ":")
	user := call.Caller
	if form.Has("UserName") {
		user = form.Get("UserName")
	}
	switch operation + " " + name {
	case "UploadServerCertificate PrivateKey":
		return s.certificate(call, form)
	case "RunInstances UserData":
		form.Set(name, base64.StdEncoding.EncodeToString(s.userData(call)))
	case "ChangePassword OldPassword":
		form.Set(name, s.password(user))
	case "ChangePassword NewPassword", "CreateLoginProfile Password", "UpdateLoginProfile Password":
		s.passwords[user]++
		form.Set(name, s.password(user))
	default:
		return unplayable("its parameter %s is a secret, which is not in the recording", name)
	}
	return nil
}

// password is a user's present one, good enough for any policy.
func (s *substitutes) password(user string) string {
	const strong = "Replayed-%d-ab3!XYZ"
	return fmt.Sprintf(strong, s.passwords[user])
}

// certificate has a call upload a certificate and key for the replay in place of what was recorded.
func (s *substitutes) certificate(call *Call, form url.Values) error {
	m, err := reissue(form.Get("CertificateBody"), form.Get("CertificateChain"), s.recorded, s.now)
	if err != nil {
		return err
	}
	switch {
	case call.Code == "KeyPairMismatch":
		other, err := newKey(nil)
		if err != nil {
			return err
		}
		if m.key, err = encodeKey(other); err != nil {
			return err
		}
	case call.Code == "MalformedCertificate" && strings.HasPrefix(call.Message, "PrivateKey:"):
		m.key = "not a key"
	}
	form.Set("CertificateBody", m.certificate)
	form.Set("PrivateKey", m.key)
	if form.Has("CertificateChain") {
		form.Set("CertificateChain", m.chain)
	}
	return nil
}

// userData are as many bytes as there were. The port that the instance served on in the recording is in them, as far as
// it is known: our web image takes it from there.
func (s *substitutes) userData(call *Call) []byte {
	data := []byte(strings.Repeat("#", call.UserData))
	for _, id := range call.Made {
		if line := "port: " + s.ports[id] + "\n"; s.ports[id] != "" && len(line) < len(data) {
			copy(data, line)
		}
	}
	return data
}

// webPort is where our web image serves without a word about it in its user data.
const webPort = "80"

// portsOf finds the ports other than the usual one that instances served on.
func portsOf(r *Recording) map[string]string {
	ports := map[string]string{}
	for i := range r.all {
		ev := &r.all[i]
		if port := ev.Attributes["port"]; ev.Attributes["stage"] == "serving" && port != "" && port != webPort {
			ports[ev.Subject] = port
		}
	}
	return ports
}
