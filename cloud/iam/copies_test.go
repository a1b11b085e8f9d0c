package iam_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// searcher goes through everything that a value reaches in memory, fields that are not exported too.
type searcher struct {
	needles [][]byte
	found   []string
	seen    map[seenValue]bool
	bytes   int
}

type seenValue struct {
	at   unsafe.Pointer
	kind reflect.Type
	n    int
}

func (s *searcher) look(path string, data []byte) {
	s.bytes += len(data)
	for _, n := range s.needles {
		if bytes.Contains(data, n) {
			s.found = append(s.found, path)
			return
		}
	}
}

// memory is a slice's or array's own bytes.
func memory(at unsafe.Pointer, n int, size uintptr) []byte {
	if n == 0 || at == nil {
		return nil
	}
	return unsafe.Slice((*byte)(at), n*int(size))
}

func plain(k reflect.Kind) bool { return k >= reflect.Bool && k <= reflect.Complex128 }

func (s *searcher) walk(path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		s.look(path, []byte(v.String()))
	case reflect.Pointer:
		// What the store's server and the journal keep goes to a disk; the leak scan looks at that.
		if v.IsNil() || v.Type() == reflect.TypeFor[*store.Store]() || v.Type() == reflect.TypeFor[*journal.Journal]() ||
			s.been(v.UnsafePointer(), v.Type(), 0) {
			return
		}
		s.walk(path, v.Elem())
	case reflect.Interface:
		if !v.IsNil() {
			inner := reflect.New(v.Elem().Type()).Elem()
			inner.Set(v.Elem())
			s.walk(path, inner)
		}
	case reflect.Slice, reflect.Array:
		s.walkList(path, v)
	case reflect.Map:
		for i := v.MapRange(); i.Next(); {
			for _, part := range []reflect.Value{i.Key(), i.Value()} {
				open := reflect.New(part.Type()).Elem()
				open.Set(part)
				s.walk(path+"[]", open)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			open := reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem()
			s.walk(path+"."+v.Type().Field(i).Name, open)
		}
	default: // numbers say nothing one by one; nobody can look into functions and channels
	}
}

func (s *searcher) walkList(path string, v reflect.Value) {
	if v.Len() == 0 {
		return
	}
	at := v.Index(0).Addr().UnsafePointer()
	if v.Kind() == reflect.Slice && s.been(at, v.Type(), v.Len()) {
		return
	}
	if plain(v.Type().Elem().Kind()) {
		s.look(path, memory(at, v.Len(), v.Type().Elem().Size()))
		return
	}
	for i := range v.Len() {
		s.walk(path+"[]", v.Index(i))
	}
}

func (s *searcher) been(at unsafe.Pointer, kind reflect.Type, n int) bool {
	key := seenValue{at, kind, n}
	been := s.seen[key]
	s.seen[key] = true
	return been
}

// find returns the paths at which a value reaches one of the needles.
func find(value any, needles ...[]byte) *searcher {
	s := &searcher{needles: needles, seen: map[seenValue]bool{}}
	v := reflect.New(reflect.TypeOf(value)).Elem()
	v.Set(reflect.ValueOf(value))
	s.walk("service", v)
	return s
}

// formsOf are the ways in which USERPK could lie in memory: PEM's text, DER, the number in both byte orders.
func formsOf(t *testing.T, key string) [][]byte {
	t.Helper()
	block, _ := pem.Decode([]byte(key))
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	number, err := parsed.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	backward := slices.Clone(number)
	slices.Reverse(backward)
	return [][]byte{
		[]byte(strings.Split(key, "\n")[1]), []byte(base64.StdEncoding.EncodeToString([]byte(key)))[:48], number[:24],
		backward[:24],
	}
}

// TestNoCopyOfUserKey: USERPK is opened within a delivery only. Whatever the service keeps, it is not in there in
// clear: not after the upload, not after deliveries, which fill every cache, and not after a rotation, which seals it
// anew.
func TestNoCopyOfUserKey(t *testing.T) {
	s := newScene(t)
	needles := formsOf(t, s.pair.key)
	type raw = map[string]any
	rec, err := store.NewTable[raw](s.store, "iam-server-certificates").Get(t.Context(), demoAccount+"/www")
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		if found := find(s.Service, needles...).found; len(found) > 0 {
			t.Errorf("%s USERPK is in clear at %v", when, found)
		}
	}
	s.Close()
	s.KeepCaches()
	s.upload(t, "again", s.pair)
	check("after an upload")
	for range 3 {
		r := s.request(t, s.arn, s.identity, s.clock.Now())
		if _, err := s.download(t, s.caller, s.identity, r.Form(), r); err != nil {
			t.Fatal(err)
		}
	}
	check("after deliveries")
	// The search reaches the caches: the sealed key is in them.
	if found := find(s.Service, []byte(rec["Key"].(string))).found; len(found) == 0 {
		t.Error("control: the sealed key is found nowhere, so the search does not reach the cache")
	}
	block, _ := pem.Decode([]byte(s.pair.key))
	for i, copied := range []any{s.pair.key, []byte(s.pair.key), must509(t, block.Bytes)} {
		kept := struct {
			service any
			copied  any
		}{s.Service, copied}
		if found := find(kept, needles...).found; len(found) == 0 {
			t.Errorf("control %d: a copy is not found", i)
		}
	}
	before := s.current(t, 2)
	if _, err := s.RotateIAMCertificate(t.Context(), 2, "a test"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RetireIAMCertificate(t.Context(), before.Serial, true, "a test"); err != nil {
		t.Fatal(err)
	}
	check("after a rotation")
}

// must509 is the key as the library has it.
func must509(t *testing.T, der []byte) any {
	t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
