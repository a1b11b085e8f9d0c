package vnet

import (
	"context"
	"io"
	"net"
	"sync"
)

const copyBuffer = 32 << 10

var copyBuffers = sync.Pool{New: func() any {
	b := make([]byte, copyBuffer)
	return &b
}}

// splice moves bytes between a guest and the host until both directions have ended, one has failed, or ctx ends. The
// end of one direction is passed on and leaves the other open; a failure is passed on as a reset.
func splice(ctx context.Context, guest *guestConn, host *net.TCPConn) {
	abort := func() {
		guest.abort()
		reset(host)
	}
	defer context.AfterFunc(ctx, abort)()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if move(guest, host) != nil {
			abort()
		}
	}()
	if move(host, guest) != nil {
		abort()
	}
	<-done
	_ = guest.Close()
	_ = host.Close()
}

// stream is a connection whose two directions end apart.
type stream interface {
	io.ReadWriter
	CloseWrite() error
}

// move copies one direction and passes on its end. It borrows its buffer; the wrapper hides the host connection's own
// ways of copying: none of them fits a connection that is not the kernel's, and each takes a buffer of its own.
func move(to, from stream) error {
	b := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(b)
	if _, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, *b); err != nil {
		return err
	}
	return to.CloseWrite()
}

// reset closes a host connection so that its client sees a failure and not an orderly end.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
