package nodelink

import (
	"crypto/sha256"
	"encoding/hex"
)

// StageMediumWiped is the stage of a node's own milestone that says that a credential's medium is gone for good:
// reason is one of the reasons below, credential the credential's Fingerprint. The cloud then forgets it.
const StageMediumWiped = "medium-wiped"

// What else tells of media. The first two are a node's own milestones, StageMediumRefused is a guest's word.
const (
	// StageMediumInserted says that a medium is in the drive: credential is its credential's Fingerprint.
	StageMediumInserted = "medium-inserted"
	// StageMediumFailed says that a medium could not be made or put in: reason.
	StageMediumFailed = "medium-failed"
	// StageMediumRefused says that a guest keeps the identity that it has: reason.
	StageMediumRefused = "medium-refused"
)

// The reasons for which a medium is gone for good.
const (
	WipedRead    = "read"    // the guest has read it
	WipedExpired = "expired" // it was there for as long as a medium may be
	WipedEnded   = "ended"   // the guest ended
)

// Fingerprint tells one sealed credential from another without opening it; empty for none.
func (c *Credential) Fingerprint() string {
	if c == nil {
		return ""
	}
	sum := sha256.Sum256([]byte(c.GetSealedKey() + "\x00" + c.GetSealedCert()))
	return hex.EncodeToString(sum[:8])
}
