// Package sts is the security token service: AssumeRole, GetSessionToken and GetCallerIdentity.
//
// The tokens themselves are made and verified by package iam, which owns the keys and the records of roles. What may
// be asked for is decided here: how long, under which name, limited by which policy. Start with service.go.
package sts
