#!/bin/busybox sh
# The only program of a laboratory guest: configures the network from the kernel's command line, serves one page, and
# obeys what is said on the serial console. Answers begin with "guest:".
/bin/busybox mkdir -p /proc /sys /dev /www /tmp
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
stty -echo </dev/console
echo "guest: init"

for word in $(cat /proc/cmdline); do
    case $word in
    lab.role=*) role=${word#*=} ;;
    lab.address=*) address=${word#*=} ;;
    lab.router=*) router=${word#*=} ;;
    esac
done

for module in $(cat /modules/order); do
    insmod "/modules/$module.ko" || echo "guest: failed: module $module"
done
until [ -e /sys/class/net/eth0 ]; do usleep 10000; done

hostname "$role"
ip link set lo up
ip address add "$address" dev eth0
ip link set eth0 up
ip route add default via "$router"

page() {
    {
        echo "token $token"
        echo "role $(hostname)"
        echo "address $(ip -4 -o address show dev eth0 | sed 's/.* inet \([0-9.]*\).*/\1/')"
        echo "sibling $sibling"
    } >/www/index.html.new
    # Renamed, so that nobody ever reads half a page.
    mv /www/index.html.new /www/index.html
}
page
httpd -p 80 -h /www

# The answer puts the router into the ARP cache, and so into the snapshot.
tries=0
until ping -c 1 -W 1 "$router" >/dev/null; do
    tries=$((tries + 1))
    if [ $tries -ge 60 ]; then
        echo "guest: failed: router $router does not answer"
        break
    fi
done
echo "guest: ready"

while read -r verb argument; do
    case $verb in
    token)
        token=$argument
        page
        echo "guest: done"
        ;;
    sibling)
        # Not wget: the static busybox dies in the C library's name service.
        sibling=$(printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 "$argument" 80 | sed -n 's/^token //p')
        page
        echo "guest: done"
        ;;
    run)
        eval "$argument" 2>&1 | sed 's/^/guest: output /'
        echo "guest: done"
        ;;
    esac
done
