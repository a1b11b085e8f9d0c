//go:build tools

package main

// The generator reads the service models of this module from the module cache. The import keeps the module, and so
// the exact version of the models, in go.mod.
import _ "github.com/aws/aws-sdk-go/aws/awserr"
