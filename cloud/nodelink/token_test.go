package nodelink_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

func token() nodelink.Token {
	t := nodelink.Token{ID: "0123456789abcdef"}
	for i := range t.Secret {
		t.Secret[i], t.CAHash[i] = 0xab, 0xcd
	}
	return t
}

func TestTokenText(t *testing.T) {
	want := token()
	got, err := nodelink.ParseToken(" " + want.Text() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("token changed on its way through text")
	}
}

func TestParseTokenRefuses(t *testing.T) {
	good := strings.Split(token().Text(), ".")
	with := func(part int, text string) string {
		parts := append([]string(nil), good...)
		parts[part] = text
		return strings.Join(parts, ".")
	}
	tests := []struct{ name, text string }{
		{name: "empty"},
		{name: "other version", text: with(0, "ctn2")},
		{name: "short id", text: with(1, "0123")},
		{name: "id is no hexadecimal", text: with(1, "zzzzzzzzzzzzzzzz")},
		{name: "short secret", text: with(2, "abab")},
		{name: "no CA hash", text: strings.Join(good[:3], ".")},
		{name: "long CA hash", text: with(3, good[3]+"00")},
		{name: "one part too many", text: token().Text() + ".00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := nodelink.ParseToken(tt.text)
			if !errors.Is(err, nodelink.ErrToken) {
				t.Fatalf("error %v, want ErrToken", err)
			}
			if strings.Contains(err.Error(), "abab") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func TestTokenShowsNoSecret(t *testing.T) {
	tok := token()
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", tok)
	text, err := json.Marshal(tok)
	if err != nil {
		t.Fatal(err)
	}
	for name, shown := range map[string]string{
		"%v": fmt.Sprintf("%v", tok), "%+v": fmt.Sprintf("%+v", tok), "%x": fmt.Sprintf("%x", tok),
		"%#v": fmt.Sprintf("%#v", tok), "slog": log.String(), "json": string(text),
	} {
		if strings.Contains(shown, "abab") || strings.Contains(shown, "171") {
			t.Errorf("%s shows the secret: %s", name, shown)
		}
	}
}

func TestCheckNodeID(t *testing.T) {
	for id, ok := range map[string]bool{
		"node-1": true, "n": true, "host.example.test": true, strings.Repeat("n", 64): true,
		"": false, "-n": false, "n-": false, "a/b": false, "a b": false, strings.Repeat("n", 65): false, "ü": false,
	} {
		if err := nodelink.CheckNodeID(id); (err == nil) != ok {
			t.Errorf("CheckNodeID(%q) = %v", id, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(token().Text())
	f.Add("ctn1.0123456789abcdef..")
	f.Fuzz(func(t *testing.T, text string) {
		bounded.Memory(t, len(text), func() {
			tok, err := nodelink.ParseToken(text)
			if err != nil {
				return
			}
			if again, err := nodelink.ParseToken(tok.Text()); err != nil || again.Secret != tok.Secret ||
				again.CAHash != tok.CAHash {
				t.Fatalf("%q does not survive its own text: %v", text, err)
			}
		})
	})
}

func TestMergeMilestones(t *testing.T) {
	same := func(a, b int) bool { return a == b }
	count := func(from, to int) (out []int) {
		for i := from; i < to; i++ {
			out = append(out, i)
		}
		return out
	}
	full := append(count(0, nodelink.KeepFirst), count(152, 200)...)
	tests := []struct {
		name             string
		old, told        []int
		wantAll, wantNew []int
	}{
		{name: "nothing"},
		{name: "first", told: []int{1, 2}, wantAll: []int{1, 2}, wantNew: []int{1, 2}},
		{name: "told again", old: []int{1, 2}, told: []int{1, 2, 3, 3}, wantAll: []int{1, 2, 3}, wantNew: []int{3}},
		{name: "too many", told: count(0, 200), wantAll: full, wantNew: count(0, 200)},
		{name: "too many, told again", old: full, told: full, wantAll: full},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := append([]int(nil), tt.old...)
			all, added := nodelink.MergeMilestones(tt.old, tt.told, same)
			if diff := cmp.Diff(tt.wantAll, all); diff != "" {
				t.Errorf("merged (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.wantNew, added); diff != "" {
				t.Errorf("added (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, append([]int(nil), tt.old...)); diff != "" {
				t.Errorf("old was changed:\n%s", diff)
			}
		})
	}
}
