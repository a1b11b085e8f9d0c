//go:build linux

package station

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	maxOrder      = 8 << 20 // bytes
	defaultAnswer = 10 * time.Second
	maxBody       = 1 << 20 // bytes of an answer that are told
	orderTimeout  = 30 * time.Second
)

// server is the station in its guest.
type server struct {
	card *card

	mu     sync.Mutex
	closed []*netlink.Route // what the route's ends are closed to the kernel by
}

// Serve runs a station until ctx ends. The machine's network is up already.
func Serve(ctx context.Context, listen func(network, address string) (net.Listener, error)) error {
	card, err := openCard()
	if err != nil {
		return fmt.Errorf("run station: %w", err)
	}
	listener, err := listen("tcp", ":"+strconv.Itoa(Port))
	if err != nil {
		return fmt.Errorf("run station: %w", err)
	}
	go card.listen()
	s := &server{card: card}
	web := &http.Server{Handler: s.handler(), ReadHeaderTimeout: orderTimeout}
	context.AfterFunc(ctx, func() { _ = web.Close() })
	if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("run station: %w", err)
	}
	return nil
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	handle(mux, pathSend, func(_ context.Context, o sendOrder) (struct{}, error) {
		for range max(o.Times, 1) {
			for i, frame := range o.Frames {
				if err := s.card.send(frame); err != nil {
					return struct{}{}, fmt.Errorf("frame %d of %d bytes: %w", i+1, len(frame), err)
				}
			}
		}
		return struct{}{}, nil
	})
	handle(mux, pathHeard, func(context.Context, struct{}) (Heard, error) { return s.card.takeHeard(), nil })
	handle(mux, pathAsk, func(ctx context.Context, q Question) (Answer, error) { return ask(ctx, q), nil })
	handle(mux, pathTalk, talk)
	handle(mux, pathMTU, func(_ context.Context, mtu int) (struct{}, error) {
		link, err := netlink.LinkByIndex(s.card.index)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, netlink.LinkSetMTU(link, mtu)
	})
	handle(mux, pathRoute, func(_ context.Context, r Route) (struct{}, error) { return struct{}{}, s.setRoute(r) })
	handle(mux, pathRouted, func(context.Context, struct{}) (Routed, error) { return s.card.routed(), nil })
	return mux
}

// handle registers an order.
func handle[O, A any](mux *http.ServeMux, path string, do func(context.Context, O) (A, error)) {
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		var order O
		if err := json.NewDecoder(io.LimitReader(r.Body, maxOrder)).Decode(&order); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer, err := do(r.Context(), order)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
}

// ask never fails: what went wrong is the answer.
func ask(ctx context.Context, q Question) Answer {
	if q.Timeout == 0 {
		q.Timeout = defaultAnswer
	}
	ctx, cancel := context.WithTimeout(ctx, q.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, q.Method, q.URL, nil)
	if err != nil {
		return Answer{Error: err.Error()}
	}
	req.Header, req.Host = q.Header, q.Host
	if req.Header == nil {
		req.Header = http.Header{}
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return Answer{Error: err.Error()}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return Answer{Error: err.Error()}
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
}

// talk is one connection. That the time for it is over is no error.
func talk(ctx context.Context, t Talk) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.To.String())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, t.Send); err != nil {
		return "", err
	}
	heard, err := io.ReadAll(io.LimitReader(conn, maxBody))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return string(heard), err
}

// setRoute begins or ends the route. The kernel would answer the packets of connections that it does not know with
// resets, so it is kept from reaching the route's ends.
func (s *server) setRoute(r Route) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.card.setRoute(Route{})
	for _, old := range s.closed {
		if err := netlink.RouteDel(old); err != nil {
			return fmt.Errorf("open the way to %s: %w", old.Dst, err)
		}
	}
	s.closed = nil
	if r == (Route{}) {
		return nil
	}
	for _, end := range [][]byte{r.To.Addr().AsSlice(), r.Client.AsSlice()} {
		way := &netlink.Route{Dst: &net.IPNet{IP: end, Mask: net.CIDRMask(32, 32)}, Type: unix.RTN_BLACKHOLE}
		if err := netlink.RouteAdd(way); err != nil {
			return fmt.Errorf("close the way to %s: %w", way.Dst, err)
		}
		s.closed = append(s.closed, way)
	}
	s.card.setRoute(r)
	return nil
}
