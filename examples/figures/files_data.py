"""Writes the files of files.sh: the same rows as NDJSON and CSV, packed, nested and with some that are broken.

    python files_data.py FOLDER [ROWS]        four million rows are about 550 MB of NDJSON and 370 MB of CSV
"""

import random
import subprocess
import sys

folder, rows = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 4_000_000
dice = random.Random(20260101)
places = ["de", "fr", "us", "jp", "br", "in", "gb", "it", "es", "nl"]
states = ["open", "paid", "sent", "returned", "lost"]
words = [dice.randbytes(6).hex() for _ in range(5000)]
files = {name: open(f"{folder}/{name}", "w", buffering=1 << 20) for name in
         ("rows.ndjson", "rows.csv", "broken.ndjson", "broken.csv", "nested.ndjson")}
for name in ("rows.csv", "broken.csv"):
    files[name].write("id,at,customer,country,amount,quantity,rate,paid,status,note\n")
write = {name: file.write for name, file in files.items()}
bits, number = dice.getrandbits, dice.random
for n in range(rows):
    day, second, customer = 1 + n % 28, n % 86400, bits(24)
    at = f"2026-01-{day:02d}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.{n % 1000:03d}Z"
    place, state, note = places[bits(16) % 10], states[bits(16) % 5], words[bits(20) % 5000]
    amount, rate, quantity, paid = f"{bits(17)}.{bits(6) + 10}", number(), bits(5), "true" if bits(1) else "false"
    line = (f'{{"id":{n},"at":"{at}","customer":{customer},"country":"{place}","amount":{amount},"quantity":{quantity},'
            f'"rate":{rate:.6f},"paid":{paid},"status":"{state}","note":"{note}"}}\n')
    cells = f"{n},{at},{customer},{place},{amount},{quantity},{rate:.6f},{paid},{state},{note}\n"
    write["rows.ndjson"](line)
    write["rows.csv"](cells)
    if n % 50 == 7:
        write["broken.ndjson"](line.replace('"amount":', '"amount":"none"+', 1) if n % 100 == 7 else line.replace(f'"id":{n}', '"id":"x"'))
        write["broken.csv"](cells.replace(",", ",none,", 1) if n % 100 == 7 else "x" + cells)
    else:
        write["broken.ndjson"](line)
        write["broken.csv"](cells)
    if n % 4 == 0:
        write["nested.ndjson"](f'{{"id":{n},"buyer":{{"id":{customer},"country":"{place}"}},"items":[{{"sku":"{note}","n":{quantity}}},'
                               f'{{"sku":"{words[n % 5000]}","n":1}}],"tags":["{state}","{place}"],"amount":{amount}}}\n')
for file in files.values():
    file.close()
for name in ("rows.ndjson", "rows.csv"):
    subprocess.run(["gzip", "-k", "-1", f"{folder}/{name}"], check=True)
