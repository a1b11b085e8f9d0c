package iam

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"image/png"
	"slices"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

const (
	// maxDevices is how many MFA devices a user can have.
	maxDevices = 8
	// mfaStep is how long a code is shown, in seconds (RFC 6238).
	mfaStep = 30
	// mfaSeed is the length of a device's seed, in bytes.
	mfaSeed = 40
	// resyncSteps is how far a device's clock may be off for EnableMFADevice and ResyncMFADevice, in steps.
	resyncSteps = 10
)

// deviceRecord is a virtual MFA device. Its serial number is its ARN.
type deviceRecord struct {
	AccountID string
	Name      string
	Path      string
	Created   time.Time
	Seed      string    // base32, sealed with the root key
	UserName  string    `json:",omitempty"` // who has it; empty until it is enabled
	Enabled   time.Time `json:",omitzero"`
	// LastStep is the step of the last code that was taken: no code is taken twice.
	LastStep int64 `json:",omitempty"`
	// Drift is by how many steps the device's clock differs.
	Drift int64 `json:",omitempty"`
	Tags  []tag `json:",omitempty"`
}

func (r *deviceRecord) arn() string     { return entityARN(r.AccountID, kindMFA, r.Path, r.Name) }
func (r *deviceRecord) purpose() string { return "mfa/" + r.AccountID + "/" + r.Name }

func noDevice(err error, serial string) error {
	return missing(err, "VirtualMFADevice with serial number %s does not exist.", serial)
}

// device returns a device of the account by its serial number, or store.ErrNotFound.
func (s *Service) device(ctx context.Context, accountID, serial string) (*deviceRecord, error) {
	owner, kind, _, name, ok := splitARN(serial)
	if !ok || kind != kindMFA || owner != accountID {
		return nil, store.ErrNotFound
	}
	rec, err := s.devices.cached(ctx, recordKey(owner, name))
	if err == nil && rec.arn() != serial {
		return nil, store.ErrNotFound
	}
	return rec, err
}

// CreateVirtualMFADevice makes a device that nobody has yet. Its seed and the picture of it are shown this once.
func (s *Service) CreateVirtualMFADevice(
	ctx context.Context, in *iammodel.CreateVirtualMFADeviceInput,
) (*iammodel.CreateVirtualMFADeviceOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name := model.Val(in.VirtualMFADeviceName)
	path, perr := checkPath("path", in.Path)
	tags, terr := readTags(in.Tags)
	if err := errors.Join(checkName("virtualMFADeviceName", name, 226, "_"), perr, terr); err != nil {
		return nil, firstOf(err)
	}
	raw := make([]byte, mfaSeed)
	_, _ = rand.Read(raw)
	seed := base32.StdEncoding.EncodeToString(raw)
	rec := deviceRecord{AccountID: id, Name: name, Path: path, Created: s.now(), Tags: tags}
	if rec.Seed, err = s.keys.root.seal(rec.purpose(), []byte(seed)); err != nil {
		return nil, err
	}
	picture, err := qrCode(id, name, seed)
	if err != nil {
		return nil, err
	}
	if err := s.devices.Create(ctx, recordKey(id, name), rec); err != nil {
		return nil, taken(err, "MFADevice entity at the same path and name already exists.")
	}
	return &iammodel.CreateVirtualMFADeviceOutput{VirtualMFADevice: &iammodel.VirtualMFADevice{
		SerialNumber: model.Ptr(rec.arn()), Base32StringSeed: []byte(seed), QRCodePNG: picture, Tags: viewTags(tags),
	}}, nil
}

// qrCode draws the seed for an authenticator's camera.
func qrCode(accountID, name, seed string) ([]byte, error) {
	key, err := otp.NewKeyFromURL("otpauth://totp/Amazon%20Web%20Services:" + name + "@" + accountID + "?secret=" + seed +
		"&issuer=Amazon%20Web%20Services")
	if err != nil {
		return nil, errors.New("draw QR code: the device's name makes no URL")
	}
	const pixels = 200
	picture, err := key.Image(pixels, pixels)
	if err != nil {
		return nil, errors.New("draw QR code: the device's name is too long")
	}
	var b bytes.Buffer
	err = png.Encode(&b, picture)
	return b.Bytes(), err
}

// codeStep returns the step, between those two and later than the last one taken, at which the device shows code.
func (s *Service) codeStep(rec *deviceRecord, code string, from, to int64) (int64, bool, error) {
	seed, err := s.keys.root.open(rec.purpose(), rec.Seed)
	if err != nil {
		return 0, false, err
	}
	defer clear(seed)
	for step := max(from, rec.LastStep+1); step <= to; step++ {
		want, err := hotp.GenerateCode(string(seed), uint64(max(step, 0)))
		if err != nil {
			return 0, false, errors.New("compute code of MFA device: the seed is damaged")
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			return step, true, nil
		}
	}
	return 0, false, nil
}

// VerifyMFA checks a code of a user's own device, which is spent by it. The error is AccessDenied, in AWS's words, when
// the device is not the user's or the code is wrong, old, or was used before.
func (s *Service) VerifyMFA(ctx context.Context, c authn.Caller, serial, code string) error {
	denied := model.Errorf("AccessDenied", 403, "MultiFactorAuthentication failed with invalid MFA one time pass code. ")
	u, err := s.user(ctx, c.AccountID, c.UserName)
	if err != nil || c.Kind != authn.KindUser || !slices.Contains(u.MFADevices, serial) {
		if err := ignoreMissing(err); err != nil {
			return err
		}
		denied.Message = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial " +
			"number is valid and associated with this user."
		return denied
	}
	_, _, _, name, _ := splitARN(serial)
	now := s.cfg.Clock().Unix() / mfaStep
	return changeRecord(ctx, s, s.devices, recordKey(c.AccountID, name), func(_ *store.Tx, rec *deviceRecord) error {
		if rec.UserName != c.UserName {
			return denied
		}
		step, ok, err := s.codeStep(rec, code, now+rec.Drift-1, now+rec.Drift+1)
		if err != nil {
			return err
		}
		if !ok {
			return denied
		}
		rec.LastStep = step
		return nil
	})
}

// EnableMFADevice gives a device to a user, who shows two of its codes, one after the other.
func (s *Service) EnableMFADevice(
	ctx context.Context, in *iammodel.EnableMFADeviceInput,
) (*iammodel.EnableMFADeviceOutput, error) {
	serial, name := model.Val(in.SerialNumber), model.Val(in.UserName)
	return nil, s.changeDevice(ctx, serial, name, func(tx *store.Tx, rec *deviceRecord, u *userRecord) error {
		switch {
		case rec.UserName != "":
			return iammodel.ErrEntityAlreadyExists("MFA Device is already in use.")
		case len(u.MFADevices) >= maxDevices:
			return errLimit("MFADevicesPerUser", maxDevices)
		}
		if err := s.synchronise(rec, model.Val(in.AuthenticationCode1), model.Val(in.AuthenticationCode2)); err != nil {
			return err
		}
		rec.UserName, rec.Enabled = u.Name, s.now()
		u.MFADevices = append(u.MFADevices, serial)
		return nil
	})
}

// ResyncMFADevice takes up the clock of a device that differs, by two of its codes, one after the other.
func (s *Service) ResyncMFADevice(
	ctx context.Context, in *iammodel.ResyncMFADeviceInput,
) (*iammodel.ResyncMFADeviceOutput, error) {
	return nil, s.changeDevice(ctx, model.Val(in.SerialNumber), model.Val(in.UserName),
		func(_ *store.Tx, rec *deviceRecord, u *userRecord) error {
			if rec.UserName != u.Name {
				return noDevice(store.ErrNotFound, rec.arn())
			}
			return s.synchronise(rec, model.Val(in.AuthenticationCode1), model.Val(in.AuthenticationCode2))
		})
}

// synchronise finds the two codes at two steps that follow each other and notes how far off the device's clock is.
func (s *Service) synchronise(rec *deviceRecord, first, second string) error {
	now := s.cfg.Clock().Unix() / mfaStep
	step, ok, err := s.codeStep(rec, first, now-resyncSteps, now+resyncSteps)
	if err != nil {
		return err
	}
	if ok {
		_, ok, err = s.codeStep(rec, second, step+1, step+1)
	}
	if err != nil {
		return err
	}
	if !ok {
		return iammodel.ErrInvalidAuthenticationCode("Authentication code for device is not valid.")
	}
	rec.LastStep, rec.Drift = step+1, 0
	// The second code is the current one; two steps off are as good as none.
	if off := step + 1 - now; off < -1 || off > 1 {
		rec.Drift = off
	}
	return nil
}

// DeactivateMFADevice takes a device from a user. The device stays, for another user.
func (s *Service) DeactivateMFADevice(
	ctx context.Context, in *iammodel.DeactivateMFADeviceInput,
) (*iammodel.DeactivateMFADeviceOutput, error) {
	serial := model.Val(in.SerialNumber)
	return nil, s.changeDevice(ctx, serial, model.Val(in.UserName),
		func(_ *store.Tx, rec *deviceRecord, u *userRecord) error {
			if rec.UserName != u.Name {
				return noDevice(store.ErrNotFound, serial)
			}
			rec.UserName, rec.Enabled = "", time.Time{}
			u.MFADevices = slices.DeleteFunc(u.MFADevices, func(d string) bool { return d == serial })
			return nil
		})
}

// changeDevice changes a device and a user together.
func (s *Service) changeDevice(ctx context.Context, serial, userName string,
	change func(*store.Tx, *deviceRecord, *userRecord) error,
) error {
	id, err := account(ctx)
	if err != nil {
		return err
	}
	owner, kind, _, name, ok := splitARN(serial)
	if !ok || kind != kindMFA || owner != id {
		return noDevice(store.ErrNotFound, serial)
	}
	deviceKey, userKey := recordKey(id, name), recordKey(id, userName)
	return s.txn(ctx, func(tx *store.Tx) error {
		rec, err := s.devices.In(tx).Get(deviceKey)
		if err != nil || rec.arn() != serial {
			return noDevice(orMissing(err), serial)
		}
		u, err := s.users.In(tx).Get(userKey)
		if err != nil || u.Name != userName {
			return noUser(orMissing(err), userName)
		}
		if err := change(tx, &rec, &u); err != nil {
			return err
		}
		return errors.Join(s.devices.In(tx).Put(deviceKey, rec), s.users.In(tx).Put(userKey, u))
	}, func() { s.devices.cache.drop(deviceKey) }, func() { s.users.cache.drop(userKey) })
}

// setDeviceUser turns a device to its user's new name.
func (s *Service) setDeviceUser(tx *store.Tx, serial, userName string) error {
	accountID, _, _, name, _ := splitARN(serial)
	rec, err := s.devices.In(tx).Get(recordKey(accountID, name))
	if err != nil {
		return err
	}
	rec.UserName = userName
	return s.devices.In(tx).Put(recordKey(accountID, name), rec)
}

// DeleteVirtualMFADevice deletes a device that nobody has.
func (s *Service) DeleteVirtualMFADevice(
	ctx context.Context, in *iammodel.DeleteVirtualMFADeviceInput,
) (*iammodel.DeleteVirtualMFADeviceOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	serial := model.Val(in.SerialNumber)
	key := tagKey(kindMFA, id, serial)
	err = s.txn(ctx, func(tx *store.Tx) error {
		rec, err := s.devices.In(tx).Get(key)
		switch {
		case err != nil || rec.arn() != serial:
			return orMissing(err)
		case rec.UserName != "":
			return iammodel.ErrDeleteConflict("MFA VirtualDevice in use. Must deactivate first.")
		}
		return s.devices.In(tx).Delete(key)
	}, func() { s.devices.cache.drop(key) })
	return nil, noDevice(err, serial)
}

// GetMFADevice returns a device that is enabled for a user.
func (s *Service) GetMFADevice(
	ctx context.Context, in *iammodel.GetMFADeviceInput,
) (*iammodel.GetMFADeviceOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	serial := model.Val(in.SerialNumber)
	rec, err := s.device(ctx, id, serial)
	if err == nil && (rec.UserName == "" || in.UserName != nil && *in.UserName != rec.UserName) {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, noDevice(err, serial)
	}
	return &iammodel.GetMFADeviceOutput{
		SerialNumber: model.Ptr(serial), UserName: model.Ptr(rec.UserName), EnableDate: model.Ptr(rec.Enabled),
	}, nil
}

// ListMFADevices lists a user's devices; without a name, the caller's.
func (s *Service) ListMFADevices(
	ctx context.Context, in *iammodel.ListMFADevicesInput,
) (*iammodel.ListMFADevicesOutput, error) {
	id, name, err := keyOwner(ctx, in.UserName)
	if err != nil {
		return nil, err
	}
	out := &iammodel.ListMFADevicesOutput{MFADevices: []iammodel.MFADevice{}, IsTruncated: model.Ptr(false)}
	if name == "" { // the root user has none
		return out, nil
	}
	u, err := s.user(ctx, id, name)
	if err != nil {
		return nil, noUser(err, name)
	}
	p, err := paginate(slices.Sorted(slices.Values(u.MFADevices)), sameText, in.Marker, in.MaxItems)
	out.IsTruncated, out.Marker = p.truncated, p.marker
	for _, serial := range p.items {
		rec, err := s.device(ctx, id, serial)
		if err != nil {
			return nil, noDevice(err, serial)
		}
		out.MFADevices = append(out.MFADevices, iammodel.MFADevice{
			SerialNumber: model.Ptr(serial), UserName: model.Ptr(name), EnableDate: model.Ptr(rec.Enabled),
		})
	}
	return out, err
}

// ListVirtualMFADevices lists the account's devices by name, without their seeds.
func (s *Service) ListVirtualMFADevices(
	ctx context.Context, in *iammodel.ListVirtualMFADevicesInput,
) (*iammodel.ListVirtualMFADevicesOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	status := strings.ToLower(model.Val(in.AssignmentStatus))
	keep := func(r *deviceRecord) bool {
		return status != "assigned" && status != "unassigned" || (r.UserName != "") == (status == "assigned")
	}
	p, err := listPage(ctx, s.devices, id+"/", keep, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iammodel.ListVirtualMFADevicesOutput{
		IsTruncated: p.truncated, Marker: p.marker, VirtualMFADevices: []iammodel.VirtualMFADevice{},
	}
	for i := range p.items {
		v := iammodel.VirtualMFADevice{SerialNumber: model.Ptr(p.items[i].arn()), Tags: viewTags(p.items[i].Tags)}
		if name := p.items[i].UserName; name != "" {
			u, err := s.user(ctx, id, name)
			if err := ignoreMissing(err); err != nil {
				return nil, err
			}
			v.EnableDate = model.Ptr(p.items[i].Enabled)
			if err == nil {
				v.User = u.view()
			}
		}
		out.VirtualMFADevices = append(out.VirtualMFADevices, v)
	}
	return out, nil
}
