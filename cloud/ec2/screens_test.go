package ec2_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"image"
	"image/jpeg"
	"image/png"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
)

func TestGetConsoleScreenshot(t *testing.T) {
	c := start(t)
	n := c.addNode(t, "node-1", bigNode())
	id := c.run(t, demo)[0]
	address := c.serve(t)
	l, _ := c.sync(t, c.dialAs(t, address, n))
	ask := func() (any, error) { return c.call(t, root(demo), "GetConsoleScreenshot", "InstanceId="+id) }
	_, err := ask()
	wantCode(t, err, "IncorrectInstanceState", "pending")
	l.send(&nodelink.Report{Instances: []*nodelink.InstanceStatus{says(id, "running")}})
	c.wantState(t, id, ec2.Running)
	if _, err := c.Screenshot(t.Context(), id); !errors.Is(err, ec2.ErrNoAnswer) {
		t.Errorf("without the node's stream: %v", err)
	}

	cert := tls.Certificate{Certificate: [][]byte{n.cert.Raw}, PrivateKey: n.key}
	node, err := nodelink.NewNodeScreensClient(dial(t, address, nodelink.NodeTLS(cert, c.ca.Pool()))).Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Send(&nodelink.ScreenAnswer{}); err != nil {
		t.Fatal(err)
	}
	var shot bytes.Buffer
	if err := png.Encode(&shot, image.NewGray(image.Rect(0, 0, 640, 480))); err != nil {
		t.Fatal(err)
	}
	answers := make(chan *nodelink.ScreenAnswer, 1)
	go func() {
		for {
			order, err := node.Recv()
			if err != nil {
				return
			}
			a := <-answers
			a.Id = order.GetId()
			if order.GetInstanceId() != id {
				a = &nodelink.ScreenAnswer{Id: order.GetId(), Refusal: nodelink.ScreenFailed, Detail: "another instance"}
			}
			if node.Send(a) != nil {
				return
			}
		}
	}()
	// The node's stream may not be open in the cloud yet.
	answers <- &nodelink.ScreenAnswer{Png: shot.Bytes()}
	var out any
	eventually(t, func() (err error) { out, err = ask(); return err })
	answer := out.(*ec2model.GetConsoleScreenshotOutput)
	data, err := base64.StdEncoding.DecodeString(*answer.ImageData)
	if err != nil || *answer.InstanceId != id {
		t.Fatalf("of %s: %v", *answer.InstanceId, err)
	}
	if size, err := jpeg.DecodeConfig(bytes.NewReader(data)); err != nil || size.Width != 640 || size.Height != 480 {
		t.Errorf("a JPEG of %d by %d: %v", size.Width, size.Height, err)
	}

	for _, tt := range []struct {
		name   string
		answer *nodelink.ScreenAnswer
		want   error
		code   string // empty: the cloud's fault
	}{
		{"no display", &nodelink.ScreenAnswer{Refusal: nodelink.ScreenNoDisplay}, ec2.ErrNoDisplay,
			"UnsupportedOperation"},
		{"not running", &nodelink.ScreenAnswer{Refusal: nodelink.ScreenNotRunning}, ec2.ErrNotRunning,
			"IncorrectInstanceState"},
		{"failed", &nodelink.ScreenAnswer{Refusal: nodelink.ScreenFailed, Detail: "QEMU is gone"}, ec2.ErrNoAnswer, ""},
		{"too large", &nodelink.ScreenAnswer{Png: make([]byte, nodelink.MaxPicture+1)}, ec2.ErrNoAnswer, ""},
		{"nothing", &nodelink.ScreenAnswer{}, ec2.ErrNoAnswer, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answers <- tt.answer
			if _, err := c.Screenshot(t.Context(), id); !errors.Is(err, tt.want) {
				t.Errorf("Screenshot: %v, want %v", err, tt.want)
			}
			if tt.code != "" {
				answers <- tt.answer
				_, err := ask()
				wantCode(t, err, tt.code, id)
			}
		})
	}
	t.Run("no picture at all", func(t *testing.T) {
		answers <- &nodelink.ScreenAnswer{Png: []byte("no PNG")}
		if _, err := ask(); err == nil {
			t.Error("what is no PNG was answered")
		}
	})
	_, err = c.call(t, root("210987654321"), "GetConsoleScreenshot", "InstanceId="+id)
	wantCode(t, err, "InvalidInstanceID.NotFound", id)
}
