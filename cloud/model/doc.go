// Package model holds the wire of the AWS query APIs: it turns a form into a typed, validated input and a typed
// output into XML.
//
// The request and response types lie in the sub-packages iam, sts, elb and ec2 and are generated from the official
// service models (module github.com/aws/aws-sdk-go, folder models/apis) by the program in gen. This package is what
// they have in common: the decoder that their struct tags drive, the checks that their tags ask for, the writer
// that their generated methods use, the table of operations, and Error, the one kind of error that a client is meant to
// see.
//
// Not in here: HTTP, signatures, error bodies (package api), and what an operation does (the service packages). A
// reader goes on to api/serve.go, which calls Handler.Decode, Handler.Call and Handler.Encode in that order.
package model

//go:generate go run ./gen
