package leakscan

import (
	"bytes"
	"slices"
)

// Clone is the key again, for somebody who wipes it when others still need it.
func (k Key) Clone() Key {
	forms := slices.Clone(k.forms)
	for i := range forms {
		forms[i].text = bytes.Clone(forms[i].text)
	}
	return Key{Name: k.Name, forms: forms}
}
