// Package nodelink is the wire between a cloud and its nodes: the messages (generated from nodelink.proto), the
// mutual TLS under them, the enrolment token's text form and the way a node dials. What the cloud answers is in
// packages ec2 and placement; what a node does with it is in node/controller. Begin with nodelink.proto.
package nodelink
