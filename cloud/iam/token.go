package iam

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/miekg/pkcs11"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// Errors of a root key on a token that an operator can mend; the wrapping error says how.
var (
	ErrTokenModule = errors.New("PKCS#11 module cannot be used")
	ErrToken       = errors.New("token cannot be used")
	ErrTokenPIN    = errors.New("PIN is refused")
	ErrTokenKey    = errors.New("key on the token cannot be used")
)

var errNoTokenKey = errors.New("no secret key is so called")

const (
	gcmNonce = 12  // bytes
	gcmTag   = 128 // bits
	// maxPIN bounds the file of a PIN, in bytes.
	maxPIN = 256
)

// token is a session with a token, logged in. It is open for one operation at a time and for as short as that takes.
type token struct {
	module  *pkcs11.Ctx
	session pkcs11.SessionHandle
	loaded  bool // this process loaded the module's state, and has to end it
	in      bool // logged in
}

// openToken loads the module, finds the one token that fits and logs in.
func openToken(u TokenURI) (_ *token, err error) {
	if _, err := os.Stat(u.ModulePath); err != nil {
		return nil, fmt.Errorf("%w: %s: %w; install the token's library, or name it in module-path", ErrTokenModule,
			u.ModulePath, err)
	}
	pin, err := readPIN(u.PINSource)
	if err != nil {
		return nil, err
	}
	defer pin.Wipe()
	t := &token{module: pkcs11.New(u.ModulePath)}
	if t.module == nil {
		return nil, fmt.Errorf("%w: %s is no PKCS#11 library for this machine", ErrTokenModule, u.ModulePath)
	}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	err = t.module.Initialize()
	t.loaded = err == nil
	if err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		return nil, fmt.Errorf("%w: start %s: %w", ErrTokenModule, u.ModulePath, err)
	}
	slot, err := t.find(u)
	if err != nil {
		return nil, err
	}
	return t, t.login(u, slot, pin)
}

// readPIN reads the PIN's file, which only its owner may read. A line's end is not part of the PIN.
func readPIN(path string) (keydelivery.Secret, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: open pin-source: %w", ErrTokenPIN, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: look at pin-source: %w", ErrTokenPIN, err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: pin-source %s has mode %v, want a file that only its owner reads; run: chmod 600 %s",
			ErrTokenPIN, path, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxPIN+1))
	if err != nil {
		return nil, fmt.Errorf("%w: read pin-source: %w", ErrTokenPIN, err)
	}
	pin := bytes.TrimRight(text, "\r\n")
	if len(pin) == 0 || len(text) > maxPIN {
		clear(text)
		return nil, fmt.Errorf("%w: pin-source %s must hold 1 to %d bytes", ErrTokenPIN, path, maxPIN)
	}
	return pin, nil
}

// find returns the slot of the one token that the URI names.
func (t *token) find(u TokenURI) (uint, error) {
	slots, err := t.module.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("%w: list tokens: %w", ErrToken, err)
	}
	var found []uint
	var labels []string
	for _, slot := range slots {
		info, err := t.module.GetTokenInfo(slot)
		if err != nil || info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		labels = append(labels, fmt.Sprintf("%q (serial %s)", info.Label, info.SerialNumber))
		fits := func(want, have string) bool { return want == "" || want == strings.TrimRight(have, " \x00") }
		if fits(u.Token, info.Label) && fits(u.Serial, info.SerialNumber) && fits(u.Model, info.Model) &&
			fits(u.Manufacturer, info.ManufacturerID) {
			found = append(found, slot)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		there := "none is"
		if len(labels) > 0 {
			there = strings.Join(labels, ", ") + " are"
		}
		return 0, fmt.Errorf("%w: no token is %s; %s there", ErrToken, u.place(), there)
	}
	return 0, fmt.Errorf("%w: %d tokens are %s; name the serial number too", ErrToken, len(found), u.place())
}

func (t *token) login(u TokenURI, slot uint, pin keydelivery.Secret) error {
	session, err := t.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("%w: open %s: %w", ErrToken, u.place(), err)
	}
	t.session = session
	err = t.module.Login(session, pkcs11.CKU_USER, string(pin))
	switch {
	case err == nil:
		t.in = true
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)):
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_LOCKED)):
		return fmt.Errorf("%w: %s is locked after too many wrong PINs; its security officer unlocks it", ErrTokenPIN,
			u.place())
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)), errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_LEN_RANGE)):
		return fmt.Errorf("%w: by %s; put the user's PIN into %s (too many wrong ones lock the token)", ErrTokenPIN,
			u.place(), u.PINSource)
	default:
		return fmt.Errorf("%w: log in to %s: %w", ErrToken, u.place(), err)
	}
	return nil
}

// close ends the session. What goes wrong then harms nobody: the process holds nothing of the token's.
func (t *token) close() {
	if t.in {
		_ = t.module.Logout(t.session)
	}
	if t.session != 0 {
		_ = t.module.CloseSession(t.session)
	}
	if t.loaded {
		_ = t.module.Finalize()
	}
	t.module.Destroy()
}

// tokenKey is an AES-256 key on a token.
type tokenKey struct {
	handle pkcs11.ObjectHandle
	// weak says what lets the key leave the token; empty when nothing does.
	weak string
}

// key finds the one AES-256 key that the URI names.
func (t *token) key(u TokenURI) (tokenKey, error) {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY)}
	if u.Object != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, u.Object))
	}
	if u.ID != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(u.ID)))
	}
	if err := t.module.FindObjectsInit(t.session, template); err != nil {
		return tokenKey{}, fmt.Errorf("%w: look for %s: %w", ErrTokenKey, u.place(), err)
	}
	found, _, err := t.module.FindObjects(t.session, 2)
	if err = errors.Join(err, t.module.FindObjectsFinal(t.session)); err != nil {
		return tokenKey{}, fmt.Errorf("%w: look for %s: %w", ErrTokenKey, u.place(), err)
	}
	switch len(found) {
	case 0:
		return tokenKey{}, fmt.Errorf("%w: %w: %s; make it with 'cloudtwin root-key create'", ErrTokenKey,
			errNoTokenKey, u.place())
	case 1:
	default:
		return tokenKey{}, fmt.Errorf("%w: several secret keys are %s; name the id too", ErrTokenKey, u.place())
	}
	return t.inspect(u, found[0])
}

// inspect checks what kind of key it is and whether it may leave the token.
func (t *token) inspect(u TokenURI, handle pkcs11.ObjectHandle) (tokenKey, error) {
	one := func(kind uint) []byte {
		list, err := t.module.GetAttributeValue(t.session, handle, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
		if err != nil || len(list) != 1 {
			return nil
		}
		return list[0].Value
	}
	aes := pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES).Value
	size := pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, rootKeySize).Value
	if !bytes.Equal(one(pkcs11.CKA_KEY_TYPE), aes) || !bytes.Equal(one(pkcs11.CKA_VALUE_LEN), size) {
		return tokenKey{}, fmt.Errorf("%w: %s is no AES key of %d bytes", ErrTokenKey, u.place(), rootKeySize)
	}
	k := tokenKey{handle: handle}
	yes := func(value []byte) bool { return len(value) == 1 && value[0] != 0 }
	switch {
	case yes(one(pkcs11.CKA_EXTRACTABLE)):
		k.weak = "it is extractable"
	case !yes(one(pkcs11.CKA_SENSITIVE)):
		k.weak = "it is not sensitive"
	}
	return k, nil
}

// wrapContext is what a wrapped root key is bound to.
var wrapContext = []byte("cloudtwin root key")

// wrap encrypts a root key with a key of the token, which does it itself: nonce, then AES-256-GCM's text and tag.
func (t *token) wrap(u TokenURI, k tokenKey, rootKey keydelivery.Secret) ([]byte, error) {
	nonce := make([]byte, gcmNonce)
	_, _ = rand.Read(nonce)
	params := pkcs11.NewGCMParams(nonce, wrapContext, gcmTag)
	defer params.Free()
	err := t.module.EncryptInit(t.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, k.handle)
	if err != nil {
		return nil, fmt.Errorf("%w: encrypt with %s by AES-GCM: %w", ErrTokenKey, u.place(), err)
	}
	sealed, err := t.module.Encrypt(t.session, rootKey)
	if err != nil {
		return nil, fmt.Errorf("%w: encrypt with %s by AES-GCM: %w", ErrTokenKey, u.place(), err)
	}
	// Some tokens choose the nonce themselves.
	if iv := params.IV(); len(iv) == gcmNonce {
		nonce = iv
	}
	return append(bytes.Clone(nonce), sealed...), nil
}

// unwrap decrypts what wrap made.
func (t *token) unwrap(u TokenURI, k tokenKey, wrapped []byte) (keydelivery.Secret, error) {
	if len(wrapped) != gcmNonce+rootKeySize+gcmTag/8 {
		return nil, fmt.Errorf("%w: the wrapped root key in the store has %d bytes", ErrRootKeyDamaged, len(wrapped))
	}
	params := pkcs11.NewGCMParams(wrapped[:gcmNonce], wrapContext, gcmTag)
	defer params.Free()
	err := t.module.DecryptInit(t.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, k.handle)
	if err != nil {
		return nil, fmt.Errorf("%w: decrypt with %s by AES-GCM: %w", ErrTokenKey, u.place(), err)
	}
	rootKey, err := t.module.Decrypt(t.session, wrapped[gcmNonce:])
	if err != nil || len(rootKey) != rootKeySize {
		return nil, fmt.Errorf("%w: %s does not open the root key in the store, so it is not the key that wrapped it; "+
			"name the right one, or move the state folder away to begin anew", ErrRootKeyElsewhere, u.place())
	}
	return rootKey, nil
}

// CreateTokenKey makes the AES-256 key that a URI names on its token: it can encrypt and decrypt, and never leaves. It
// is an error when there is one.
func CreateTokenKey(uri string) error {
	u, err := ParseTokenURI(uri)
	if err != nil {
		return err
	}
	t, err := openToken(u)
	if err != nil {
		return err
	}
	defer t.close()
	switch _, err := t.key(u); {
	case err == nil:
		return fmt.Errorf("%w: %s is there already", ErrTokenKey, u.place())
	case !errors.Is(err, errNoTokenKey):
		return err
	}
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, rootKeySize), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false), pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, u.Object),
		pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(u.ID)),
	}
	generate := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}
	if _, err := t.module.GenerateKey(t.session, generate, template); err != nil {
		return fmt.Errorf("%w: make %s: %w", ErrTokenKey, u.place(), err)
	}
	return nil
}
