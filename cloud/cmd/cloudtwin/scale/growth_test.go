package scale

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckGrowth(t *testing.T) {
	row := func(balancers int, cpu, memory float64) Row {
		return Row{LoadBalancers: balancers, CPUMillisPerStart: cpu, GuestKB: memory}
	}
	for _, tt := range []struct {
		name string
		rows []Row
		is   error
		says []string // in the error; none means that there is none
	}{
		{"the same", []Row{row(500, 20, 400), row(1000, 20, 400)}, nil, nil},
		{"less", []Row{row(500, 20, 400), row(1000, 10, 300), row(2000, 9, 290)}, nil, nil},
		{"as much as may be", []Row{row(500, 20, 400), row(2000, 25, 500)}, nil, nil},
		{"more processor", []Row{row(500, 20, 400), row(1000, 25, 400), row(2000, 30, 400)}, ErrGrowth,
			[]string{"at 2000", "30.0 ms of CPU", "1.50 times", "at 500", "1.25"}},
		{"more memory", []Row{row(500, 20, 400), row(1000, 20, 600), row(2000, 20, 400)}, ErrGrowth,
			[]string{"at 1000", "600.0 KB"}},
		{"both", []Row{row(500, 20, 400), row(1000, 40, 600)}, ErrGrowth, []string{"ms of CPU", "KB"}},
		{"nothing to compare", []Row{row(500, 20, 400)}, nil, []string{"--steps"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Report{Rows: tt.rows}.CheckGrowth(1.25)
			if (err != nil) != (len(tt.says) > 0) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Fatalf("got %v", err)
			}
			for _, words := range tt.says {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("%q does not say %q", err, words)
				}
			}
		})
	}
}
