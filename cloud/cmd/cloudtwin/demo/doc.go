// Package demo is the main job, start to end, as a user would do it with AWS's own SDK: upload a certificate, start
// two backends, create a load balancer, and ask it for a page over verified TLS. It follows the journey of the key
// through the cloud's journal, shows every step with its duration and leaves the evidence in a folder.
//
// Read job.go first; journey.go knows the steps, present.go shows them, report.go writes the evidence.
package demo
