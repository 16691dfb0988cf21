insert into testjsonb
select jsonb_strip_nulls(jsonb_build_object(
    'age', case when n % 7 = 0 then n % 50 end, 'wait', case when n % 3 = 0 then 'CC' end,
    'public', case when n % 2 = 0 then n % 4 = 0 end, 'disabled', case when n % 5 = 0 then true end,
    'node', chr(65 + n % 26) || chr(65 + n % 7), 'line', n, 'indexed', n % 11 = 0))
from generate_series(1, 1000) as n;
insert into testjsonb values
    ('{"wait": null}'), ('{"age": 25}'), ('{"age": 25.0}'), ('{}'), ('{"wait": "CC", "public": true}'),
    ('{"array": ["foo", "bar", "baz"]}'), ('[1, "two", null, {"three": [4]}]'), ('"a"'), ('null'), ('5');
