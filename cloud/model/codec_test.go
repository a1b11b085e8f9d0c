package model

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

// everything has a member of each kind that the generator makes, with constraints of each kind.
type everything struct {
	Text      *string `required:"true" min:"2" max:"5" pattern:"[a-z\\u00e9]+"`
	Number    *int64  `min:"1" max:"10"`
	Ratio     *float64
	Flag      *bool
	When      *time.Time
	Blob      []byte  `max:"4"`
	Color     *string `enum:"Red|Green"`
	Secret    *string `sensitive:"true" min:"8"`
	Inner     *inner
	Items     []inner           `max:"2"`
	Words     []string          `eachMax:"3"`
	Map       map[string]string `keyMin:"2" eachMax:"3"`
	TokenCode *string
	Renamed   *string `query:"ParamName"`
}

type inner struct {
	Port  *int64 `required:"true"`
	Inner *inner
}

func (v *everything) WriteXML(w *Writer, top bool) {
	w.String("Text", v.Text)
	w.Int("Number", v.Number)
	w.Float("Ratio", v.Ratio)
	w.Bool("Flag", v.Flag)
	w.Time("When", v.When)
	w.Blob("Blob", v.Blob)
	WriteStruct(w, "Inner", v.Inner)
	WriteList(w, "Items", v.Items, top)
	w.Strings("Words", v.Words, top)
	w.StringMap("Map", v.Map)
	w.String("elementName", v.Renamed)
}

func (v *inner) WriteXML(w *Writer, _ bool) {
	w.Int("Port", v.Port)
	WriteStruct(w, "Inner", v.Inner)
}

type service struct {
	got *everything
	out *everything
	err error
}

func (s *service) Do(_ context.Context, in *everything) (*everything, error) {
	s.got = in
	return s.out, s.err
}

func operations() []Operation {
	return []Operation{
		{
			Name: "Do", ResultWrapper: "DoResult", NewInput: func() any { return new(everything) },
			Bind: func(s any) (Call, bool) {
				d, ok := s.(interface {
					Do(ctx context.Context, in *everything) (*everything, error)
				})
				if !ok {
					return nil, false
				}
				return Bind(d.Do), true
			},
		},
		{
			Name: "Other", NewInput: func() any { return new(everything) }, Bind: func(any) (Call,
				bool) {
				return nil, false
			},
		},
	}
}

func handler(p Protocol, s *service) Handler {
	return NewHandlers(Service{Name: "x", Version: "2020-01-02", Namespace: "http://x/", Protocol: p}, operations(),
		s)["Do"]
}

func values(t testing.TB, query string) url.Values {
	t.Helper()
	v, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDecode(t *testing.T) {
	full := &everything{
		Text: Ptr("ab"), Number: Ptr(int64(7)), Ratio: Ptr(0.5), Flag: Ptr(true),
		When: Ptr(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)), Blob: []byte("hi"),
		Inner: &inner{Port: Ptr(int64(1)), Inner: &inner{Port: Ptr(int64(2))}},
		Items: []inner{{Port: Ptr(int64(3))}, {Port: Ptr(int64(4))}}, Words: []string{"a", "b", "c"}, Renamed: Ptr("r"),
	}
	withMap := *full
	withMap.Map = map[string]string{"k1": "v", "k2": ""}
	const scalars = "Text=ab&Number=7&Ratio=.5&Flag=True&When=2020-01-02T03:04:05Z&Blob=aGk%3D" +
		"&Inner.Port=1&Inner.Inner.Port=2" +
		"&ParamName=r&Unknown=1&Unknown.member.1=2&Inner.Nothing.x=y"
	tests := []struct {
		name     string
		protocol Protocol
		query    string
		want     *everything
	}{
		{
			name: "query", query: scalars + "&Items.member.1.Port=3&Items.member.2.Port=4&Words.member.10=c" +
				"&Words.member.2=b&Words.member.1=a&Map.entry.1.key=k1&Map.entry.1.value=v" +
				"&Map.entry.2.key=k2&Map.entry.2.value=",
			want: &withMap,
		},
		{
			name: "ec2", protocol: ProtocolEC2, want: full,
			query: scalars + "&Items.1.Port=3&Items.2.Port=4&Words.1=a&Words.2=b&Words.30=c",
		},
		{
			name: "huge list numbers cost nothing", want: &everything{Text: Ptr("ab"), Words: []string{"a", "b"}},
			query: "Text=ab&Words.member.2147483647=b&Words.member.999999999=a",
		},
		{name: "empty list", query: "Text=ab&Words=", want: &everything{Text: Ptr("ab"), Words: []string{}}},
		{
			name: "other time form", query: "Text=ab&When=20200102T030405Z", want: &everything{Text: Ptr("ab"),
				When: full.When},
		},
		{name: "fraction of a second", query: "Text=ab&When=2020-01-02T03:04:05.25%2B00:00", want: &everything{
			Text: Ptr("ab"), When: Ptr(full.When.Add(250 * time.Millisecond)),
		}},
		{name: "not ASCII", query: "Text=%C3%A9%C3%A9", want: &everything{Text: Ptr("éé")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := handler(tt.protocol, &service{}).Decode(values(t, tt.query))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestDecodeErrors reads its cases from a file, where they read as what they are: a form and its answer.
func TestDecodeErrors(t *testing.T) {
	text, err := os.ReadFile("testdata/refused.txt")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(strings.TrimSpace(string(text)), "\n\n")[1:]
	for _, block := range blocks {
		lines := strings.Split(block, "\n")
		if len(lines) != 3 {
			t.Fatalf("block %q has %d lines, want 3", block, len(lines))
		}
		t.Run(lines[0], func(t *testing.T) {
			protocol, query, _ := strings.Cut(lines[1], " ")
			p := ProtocolQuery
			if protocol == "ec2" {
				p = ProtocolEC2
			}
			_, err := handler(p, &service{}).Decode(values(t, query))
			var known *Error
			if !errors.As(err, &known) {
				t.Fatalf("error is %v", err)
			}
			got := known.Code + " " + strings.ReplaceAll(known.Message, "\n", `\n`)
			if d := cmp.Diff(lines[2], got); d != "" || known.Status != http.StatusBadRequest {
				t.Errorf("status %d, code and message:\n%s", known.Status, d)
			}
		})
	}
	if len(blocks) < 30 {
		t.Errorf("only %d cases", len(blocks))
	}
}

func TestDecodeTooManyParameters(t *testing.T) {
	form := url.Values{"Text": {"ab"}}
	for i := range maxParameters {
		form.Set("Words.member."+strconv.Itoa(i+1), "w")
	}
	_, err := handler(ProtocolQuery, &service{}).Decode(form)
	if err == nil || !strings.Contains(err.Error(), "The request has 10001 parameters, more than 10000") {
		t.Errorf("error is %v", err)
	}
}

func TestEncode(t *testing.T) {
	out := &everything{
		Text: Ptr("<a&\"b'>\r\x00é"), Number: Ptr(int64(-1)), Ratio: Ptr(1e21), Flag: Ptr(false),
		When: Ptr(time.Date(2020, 1, 2, 3, 4, 5, 600000000, time.FixedZone("", 3600))), Blob: []byte("hi"),
		Inner: &inner{}, Items: []inner{{Port: Ptr(int64(1))}, {}}, Words: []string{"x", ""},
		Map: map[string]string{"b": "2", "a": "1"}, Renamed: Ptr(""),
	}
	const text = "<Text>&lt;a&amp;&#34;b&#39;&gt;&#xD;\uFFFDé</Text><Number>-1</Number>" +
		"<Ratio>1000000000000000000000</Ratio>" +
		"<Flag>false</Flag><When>2020-01-02T02:04:05.600Z</When><Blob>aGk=</Blob><Inner></Inner>"
	const entries = "<Map><entry><key>a</key><value>1</value></entry>" +
		"<entry><key>b</key><value>2</value></entry></Map>" +
		"<elementName></elementName>"
	const header = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
	tests := []struct {
		name     string
		protocol Protocol
		out      *everything
		version  string
		want     string
	}{
		{
			name: "query", out: out, version: "2010-01-01",
			want: `<DoResponse xmlns="http://x/"><DoResult>` + text +
				"<Items><member><Port>1</Port></member><member></member>" +
				"</Items><Words><member>x</member><member></member></Words>" + entries +
				"</DoResult><ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></DoResponse>",
		},
		{
			name: "ec2", protocol: ProtocolEC2, out: out, version: "2010-01-01",
			want: header + `<DoResponse xmlns="http://ec2.amazonaws.com/doc/2010-01-01/"><requestId>id</requestId>` +
				text +
				"<Items><item><Port>1</Port></item><item></item></Items><Words><item>x</item><item></item></Words>" +
				entries +
				"</DoResponse>",
		},
		{
			name: "nothing", out: nil,
			want: `<DoResponse xmlns="http://x/"><DoResult><Items></Items><Words></Words></DoResult>` +
				"<ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></DoResponse>",
		},
		{
			name: "nothing, ec2", protocol: ProtocolEC2, out: nil,
			want: header + `<DoResponse xmlns="http://ec2.amazonaws.com/doc/2020-01-02/"><requestId>id</requestId>` +
				"<Items></Items><Words></Words></DoResponse>",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := handler(tt.protocol, &service{out: tt.out})
			got, err := h.Call(t.Context(), &everything{})
			if err != nil {
				t.Fatal(err)
			}
			text, err := h.Encode(got, tt.version, "id")
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, string(text)); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestEncodeRefuses shows that only what the model has can be an answer.
func TestEncodeRefuses(t *testing.T) {
	_, err := handler(ProtocolQuery, &service{}).Encode(new(wrong), "", "id")
	if err == nil || !strings.Contains(err.Error(), "write the answer of Do: *model.wrong is no type") {
		t.Errorf("error is %v", err)
	}
}

func TestHandlers(t *testing.T) {
	failure := Errorf("Nope", http.StatusConflict, "no: %w", errors.New("cause"))
	s := &service{err: failure}
	h := NewHandlers(Service{}, operations(), s)
	if len(h) != 1 {
		t.Fatalf("%d handlers, want 1", len(h))
	}
	if _, err := h["Do"].Call(t.Context(), &everything{}); !errors.Is(err, failure) ||
		failure.Cause.Error() != "cause" {
		t.Errorf("error is %v", err)
	}
	if _, err := h["Do"].Call(t.Context(), &inner{}); err == nil {
		t.Error("an input of another type was taken")
	}
	if d := cmp.Diff([]string{"Do", "Other"}, Names(operations())); d != "" {
		t.Error(d)
	}
	defer func() {
		if p := recover(); p == nil {
			t.Error("a method of another type was taken for no method")
		}
	}()
	NewHandlers(Service{}, operations(), wrong{})
}

type wrong struct{}

func (wrong) Do() {}

func TestRecordable(t *testing.T) {
	const key = "-----BEGIN EC PRIVATE KEY-----"
	tests := []struct {
		name     string
		protocol Protocol
		form     string
		want     string
	}{
		{"as it was sent, though it breaks every rule", ProtocolQuery, "Text=t&Number=many&ParamName=r&When=never",
			"Number=many&ParamName=r&Text=t&When=never"},
		{"sensitive, by the model and by name", ProtocolQuery, "Secret=hush&TokenCode=123456&Text=t",
			"Secret=(secret)&Text=t&TokenCode=(secret)"},
		{"a secret that is not given", ProtocolQuery, "Secret=", "Secret="},
		{"a key where none belongs", ProtocolQuery, "Words.member.1=" + key, "Words.member.1=(secret)"},
		{"lists and maps", ProtocolQuery, "Items.member.2.Inner.Port=1&Words=&Map.entry.1.key=k&Map.entry.1.value=v",
			"Items.member.2.Inner.Port=1&Map.entry.1.key=k&Map.entry.1.value=v&Words="},
		{"lists of ec2", ProtocolEC2, "Items.1.Port=1&Words.2=w&Words.member.1=w", "Items.1.Port=1&Words.2=w"},
		{"what the model does not know", ProtocolQuery, "secret=s&Text.Secret=s&Items.1.Port=1&Items.member.x.Port=1&" +
			"Inner.Secret=s&Map.entry.1.other=s&Map.entry.1=s&Items.member=s&Version=1&.=x&Text=", "Text="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := handler(tt.protocol, &service{}).Recordable(values(t, tt.form))
			if d := cmp.Diff(values(t, tt.want), got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestCompilePattern(t *testing.T) {
	tests := []struct {
		name    string
		pattern string
		match   string
		refuse  string
	}{
		{"java escapes", `[\u0009\u000A\u000D\u0020-\u00FF]+`, "a\téÿ", "Ā"},
		{"supplementary planes", `[\u0020-\uD7FF\uE000-\uFFFD\u10000-\u10FFFF]+`, "a😀", "\x01"},
		{"whole value", `[\w+=,.@-]+`, "a@b", "a b"},
		{"alternatives", `(\u002F)|(\u002F[\u0021-\u007E]+\u002F)`, "/a/", "/a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			re, err := CompilePattern(tt.pattern)
			if err != nil {
				t.Fatal(err)
			}
			if !re.MatchString(tt.match) || re.MatchString(tt.refuse) {
				t.Errorf("%s: %q must match and %q must not", re, tt.match, tt.refuse)
			}
		})
	}
	if _, err := CompilePattern(`a(?!b)`); err == nil {
		t.Error("a look-ahead was compiled")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("Text=ab&Items.member.1.Port=3&Words.member.999999999=c&Map.entry.1.key=kk&Map.entry.1.value=v")
	f.Add("Text=ab&Items.1.Port=3&Items.1.Inner.Port=4&Words.30=c&Blob=aGk%3D&When=2020-01-02T03:04:05Z")
	f.Add("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s=1&Inner.Inner.Inner.Inner.Inner.Port=x&Words=&Items=")
	f.Fuzz(func(t *testing.T, query string) {
		bounded.Memory(t, len(query), func() {
			form, err := url.ParseQuery(query)
			if err != nil {
				return
			}
			for _, p := range []Protocol{ProtocolQuery, ProtocolEC2} {
				h := handler(p, &service{})
				in, err := h.Decode(form)
				if err != nil {
					var known *Error
					if !errors.As(err, &known) || known.Status != http.StatusBadRequest {
						t.Fatalf("error %v is none that a client sees", err)
					}
					continue
				}
				got, ok := in.(*everything)
				if !ok || len(got.Words)+len(got.Items)+len(got.Map) > len(form) {
					t.Fatalf("%d parameters became %+v", len(form), got)
				}
				if _, err := h.Encode(in, "", "id"); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
}
