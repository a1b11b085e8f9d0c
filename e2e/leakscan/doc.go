// Package leakscan looks for private keys where they should not be: in logs, store files, artifacts, captures, media,
// guests' state files and the memory of processes. It knows each key's secret numbers (an RSA key's private exponent,
// primes and what follows from them, an elliptic key's scalar) and finds any 24 bytes in a row of them, raw or in the
// encodings that the product and its neighbours use: DER inside anything, PEM, base64 in both alphabets and at every
// alignment, base64 of PEM, hexadecimal, PEM inside JSON and inside a form. What certificates show too, such as a
// modulus, does not count.
//
// The scanner holds the keys in its own memory while it looks and tells places and names, never bytes. What it looks
// for it is given by whoever made it (a suite's certificates), reads with the operator's authority (OpenState) or takes
// from media as they are written (WatchMedia).
//
// Read forms.go (what is looked for), then matcher.go (how), scan.go and memory.go (where), run.go (what is allowed).
package leakscan
