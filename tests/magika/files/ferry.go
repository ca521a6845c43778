package main

import (
	"fmt"
	"net/http"
	"sync"
)

type ferry struct {
	mu    sync.Mutex
	seats map[string]int
}

func (f *ferry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seats[r.URL.Path]++
	fmt.Fprintf(w, "seat %d\n", f.seats[r.URL.Path])
}

func main() {
	if err := http.ListenAndServe("127.0.0.1:0", &ferry{seats: map[string]int{}}); err != nil {
		panic(err)
	}
}
