package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/cloudtwin/cloudtwin/cloud"
	cloudec2 "github.com/cloudtwin/cloudtwin/cloud/ec2"
)

const (
	instances      = 1000
	launchBatch    = 100
	launchPatience = time.Minute
)

// benchDescribeInstances measures a large answer: an account with 1,000 instances, described at once.
func benchDescribeInstances(ctx context.Context, s *suite) (err error) {
	c, err := startCloud(ctx, s.room)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	node, err := enrol(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.leave()) }()
	if err := launchMany(ctx, c, node); err != nil {
		return err
	}
	return compareAPI(ctx, s, c, nameDescribeInstances, apiCall{
		service: "ec2", form: url.Values{"Action": {"DescribeInstances"}, "Version": {"2016-11-15"}},
		wants: "<name>running</name>", times: instances,
	})
}

// launchMany launches the instances and waits until all are running.
func launchMany(ctx context.Context, c *cloud.Cloud, node *fakeNode) error {
	ctx, cancel := context.WithTimeout(ctx, launchPatience)
	defer cancel()
	cfg, err := clientConfig(ctx, c, c.Endpoint())
	if err != nil {
		return err
	}
	client := ec2.NewFromConfig(cfg)
	for range instances / launchBatch {
		if _, err := client.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: aws.String(cloudec2.ImageID("web")),
			MinCount: aws.Int32(launchBatch), MaxCount: aws.Int32(launchBatch)}); err != nil {
			return fmt.Errorf("launch instances: %w", err)
		}
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		status, err := c.Status(ctx)
		if err != nil {
			return err
		}
		running := 0
		for _, i := range status.Instances {
			if i.State == "running" {
				running++
			}
		}
		if running == instances {
			return nil
		}
		select {
		case <-tick.C:
		case <-node.ended:
			return fmt.Errorf("the node's connection ended: %w", node.err)
		case <-ctx.Done():
			return fmt.Errorf("%d of %d instances run: %w", running, instances, context.Cause(ctx))
		}
	}
}
