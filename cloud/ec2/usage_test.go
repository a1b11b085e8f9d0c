package ec2_test

import (
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
)

func TestUsage(t *testing.T) {
	launched := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct {
		name string
		inst ec2.Instance
		now  time.Duration // after the launch
		want ec2.Usage
	}{
		{"lives", ec2.Instance{State: ec2.Running}, time.Hour, ec2.Usage{Instances: 1, InstanceTime: time.Hour}},
		{"ended", ec2.Instance{State: ec2.Terminated, TerminatedAt: launched.Add(time.Minute)}, time.Hour,
			ec2.Usage{Instances: 1, InstanceTime: time.Minute}},
		{"a load balancer's", ec2.Instance{State: ec2.Running, OwnedFor: "123456789012"}, time.Second,
			ec2.Usage{LoadBalancerVMs: 1, LoadBalancerTime: time.Second}},
		{"launched by a clock that was ahead", ec2.Instance{State: ec2.Pending}, -time.Second, ec2.Usage{Instances: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.inst.LaunchTime = launched
			var got ec2.Usage
			got.Add(&tt.inst, tt.inst.Lasted(launched.Add(tt.now)))
			if got != tt.want {
				t.Errorf("usage is %+v, want %+v", got, tt.want)
			}
			got.Add(&tt.inst, tt.inst.Lasted(launched.Add(tt.now)))
			if got.Instances != 2*tt.want.Instances || got.LoadBalancerTime != 2*tt.want.LoadBalancerTime {
				t.Errorf("two of it are %+v", got)
			}
		})
	}
}
