// Package policy reads IAM policy documents and decides what they allow.
//
// Parse turns a document's text into a compiled Document once, naming the element that is wrong when it is; a
// Cache keeps compiled documents by their text. A Set gathers the documents that bear on one request (identity
// policies, permissions boundary, session policy, resource policy), Set.Evaluate answers without allocating in the
// common path, and Set.Explain answers the same question with every statement's and every condition's part in it.
//
// Not in here: which policies belong to whom and which condition keys a request has (package iam), and what is
// done with a denial (package api). Start with document.go for the grammar, evaluate.go for the logic, condition.go
// for the operators.
//
// The rules are those of the IAM User Guide, "IAM JSON policy elements reference" and "Policy evaluation logic".
package policy
