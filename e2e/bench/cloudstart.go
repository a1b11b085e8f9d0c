package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

const cloudStarts = 5

// benchCloudStart measures from nothing to a control plane that answers, beside the start of its store alone.
func benchCloudStart(ctx context.Context, s *suite) error {
	var whole, alone []time.Duration
	for range cloudStarts {
		took, err := timeCloudStart(ctx, s.room)
		if err != nil {
			return err
		}
		whole = append(whole, took)
		if took, err = timeStoreStart(ctx, s.room); err != nil {
			return err
		}
		alone = append(alone, took)
	}
	s.emit(result{Name: nameCloudStart, Value: median(whole).Seconds(), Unit: seconds}.
		against("embedded etcd alone", median(alone).Seconds(), aim{}))
	return nil
}

// webDigest is the made-up digest of the image that a cloud without real nodes offers.
const webDigest = "sha256:be7c000000000000000000000000000000000000000000000000000000000000"

// startCloud starts a control plane in a new folder. No node belongs to it.
func startCloud(ctx context.Context, room *workroom) (*cloud.Cloud, error) {
	dir, err := room.scratch()
	if err != nil {
		return nil, err
	}
	return cloud.Start(ctx, cloud.Config{Dir: filepath.Join(dir, "cloud"), Journal: filepath.Join(dir, "journal.jsonl"),
		Images: []ec2.ImageInfo{{Name: "lbvm"}, {Name: "web", Digest: webDigest, Public: true}}})
}

func timeCloudStart(ctx context.Context, room *workroom) (took time.Duration, err error) {
	begun := time.Now()
	c, err := startCloud(ctx, room)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Endpoint()+"/healthz", nil)
	if err != nil {
		return 0, err
	}
	client := &http.Client{Timeout: dialTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask for the cloud's health: %w", err)
	}
	took = time.Since(begun)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("ask for the cloud's health: %s", resp.Status)
	}
	return took, nil
}

func timeStoreStart(ctx context.Context, room *workroom) (time.Duration, error) {
	dir, err := room.scratch()
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	records, err := store.Open(ctx, store.Config{Dir: filepath.Join(dir, "cloud")})
	if err != nil {
		return 0, err
	}
	took := time.Since(begun)
	return took, records.Close()
}
